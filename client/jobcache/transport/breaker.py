"""Not asking a server that is away: pure logic, told what happened and what time it is.

Closed, every call passes. When one has waited in vain, or some have failed in a row, it opens: calls fail at once, but
for one at a time that tries, after a pause that grows and is jittered so that many processes do not try together. Any
answer closes it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from jobcache.times import Clock

FAILURES = 2
"""Failures in a row that open the breaker. One alone may be a single connection that was lost."""
FIRST_PAUSE = 0.1
"""Seconds before the first try."""
FIRST_PAUSE_AFTER_WAITING = 0.4
"""The same after a timeout. Calls that queued behind the one that waited are refused within this time."""
LONGEST_PAUSE = 1.0
"""Seconds between two tries at most, by default; a server that is back is noticed within so many."""


class OutageError(Exception):
    """Nothing was asked, since the server has been away; the message says for how long and why."""


class Breaker:
    """What one process knows of whether a server answers. Safe to be called from any thread.

    Args:
        opens: whether it ever does.
        longest_pause: most seconds between two tries.
        clock: seconds on a monotonic clock.
        jitter: a random number from 0 to 1.
    """

    def __init__(
        self,
        *,
        opens: bool = True,
        longest_pause: float = LONGEST_PAUSE,
        clock: Clock = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._opens = opens
        self._longest_pause = longest_pause
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        self._failures = 0
        self._since = 0.0
        self._why = ""
        self._open = False
        self._pause = 0.0
        self._next_try = 0.0
        self._trying: object | None = None

    def enter(self) -> object | None:
        """Before an exchange. What it returns is to be given to ``failed`` or ``left``.

        Raises:
            OutageError: the server is away, and it is not for this call to try.
        """
        if not self._open:
            return None
        with self._lock:
            return self._let_one_try()

    def recheck(self, ticket: object | None) -> None:
        """Between entering and asking, for who had to wait.

        Raises:
            OutageError: the server was found to be away meanwhile, and it is not for this call to try.
        """
        if self._open:
            with self._lock:
                if self._open and (ticket is None or ticket is not self._trying):
                    raise OutageError(self._describe())

    def succeeded(self) -> None:
        """The server answered, if only with an error."""
        if self._failures:
            with self._lock:
                self._failures = 0
                self._open = False
                self._trying = None

    def failed(self, ticket: object | None, why: str, *, silently: bool = False) -> None:
        """The server did not answer an exchange.

        Args:
            ticket: what ``enter`` gave.
            why: for people.
            silently: whether it was waited for. Then this counts for as many failures as it takes, since whoever asks
                next would wait as long.
        """
        with self._lock:
            self._failures += 1
            if self._failures == 1:
                self._since = self._clock()
            self._why = why
            if not self._open:
                if self._failures >= (1 if silently else FAILURES) and self._opens:
                    self._open = True
                    self._hold(FIRST_PAUSE_AFTER_WAITING if silently else FIRST_PAUSE)
            elif ticket is not None and ticket is self._trying:
                self._trying = None
                self._hold(min(2 * self._pause, self._longest_pause))

    def left(self, ticket: object | None) -> None:
        """An exchange ended without a verdict on the server: another call may try."""
        if ticket is not None:
            with self._lock:
                if ticket is self._trying:
                    self._trying = None

    def _let_one_try(self) -> object | None:
        if not self._open:  # any more
            return None
        if self._trying is not None or self._clock() < self._next_try:
            raise OutageError(self._describe())
        self._trying = object()
        return self._trying

    def _hold(self, pause: float) -> None:
        self._pause = pause
        self._next_try = self._clock() + pause * (1 + self._jitter()) / 2

    def _describe(self) -> str:
        now = self._clock()
        again = f"asked again in {max(0.0, self._next_try - now):.1f} s"
        if self._trying is not None:
            again = "being asked again now"
        return f"no answer for {now - self._since:.1f} s ({self._why}); {again}"
