"""Which answers of replicas count: none that is older than what the primary has told. Without I/O.

Within an epoch, generations only grow and none comes twice with other contents, so the generation tells which of two
answers is the older. Of another epoch than the primary's last word nothing counts. Between two generations the
refresher may still write how it is doing, so an answer of the very generation of that word must say the same.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jobcache.connection.breaker import Breaker, OutageError
from jobcache.connection.budget import Clock
from jobcache.models import CacheState
from jobcache.plans.header import META_FIELDS, Header

HEARING = 1.0
"""Seconds after which the next query is put to the primary."""
LONGEST_UNHEARD = 2.0
"""Seconds without the primary's word after which no replica is asked."""

_ANSWERABLE = (CacheState.READY, CacheState.DEGRADED)


@dataclass(frozen=True, slots=True)
class Turn:
    """Leave to ask a replica; to be given back by ``admits``, ``refused`` or ``left``."""

    ticket: object | None

    @property
    def anew(self) -> bool:
        """Whether to choose a replica anew, since the last ones asked gave nothing that counts."""
        return self.ticket is not None


class Guard:
    """What one process knows of a cache by its primary's word. Safe to be called from any thread.

    Args:
        clock: seconds on a monotonic clock.
        jitter: a random number from 0 to 1.
    """

    def __init__(
        self, *, clock: Clock = time.monotonic, jitter: Callable[[], float] = random.random
    ) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._bar = Header((None,) * len(META_FIELDS))
        self._bar_set_at = -math.inf
        self._asked_at = -math.inf
        self._hearing_since = -math.inf
        self._lag = Breaker(clock=clock, jitter=jitter)

    def enter(self) -> Turn | None:
        """Leave to ask a replica; None if it is the primary's turn.

        That is for one query in each second, and for all where the primary was not heard for too long, which bounds by
        how much a replica's answer is older than what the primary knows; or where replicas give nothing that counts.
        """
        with self._lock:
            now = self.clock()
            unheard = now - self._asked_at
            if unheard > LONGEST_UNHEARD or not _is_answerable(self._bar):
                return None
            if unheard >= HEARING and now - self._hearing_since >= HEARING:
                self._hearing_since = now
                return None
        try:
            return Turn(self._lag.enter())
        except OutageError:
            return None

    def heard(self, head: Sequence[Any], asked: float) -> None:
        """The primary answered.

        Args:
            head: the answer's header.
            asked: when it was asked, on the clock. What it said may have been true since then only.
        """
        told = Header(head)
        with self._lock:
            if self._replaces_bar(told, asked):
                self._bar = told
                self._bar_set_at = self.clock()
            self._asked_at = max(self._asked_at, asked)

    def admits(self, turn: Turn, head: Sequence[Any]) -> bool:
        """Whether an answer of a replica counts. If so, none counts from now on that is older than it."""
        told = Header(head)
        with self._lock:
            counts = (
                _is_answerable(told)
                and told.epoch == self._bar.epoch
                and (told.generation > self._bar.generation or told.says_the_same(self._bar))
            )
            if counts:
                self._bar = told
        if counts:
            self._lag.succeeded()
        else:
            self.refused(turn)
        return counts

    def refused(self, turn: Turn) -> None:
        """A replica gave nothing that counts. When two have in a row, they are left alone for a while."""
        self._lag.failed(turn.ticket, "nothing that counts")

    def left(self, turn: Turn) -> None:
        """A replica gave nothing at all."""
        self._lag.left(turn.ticket)

    def _replaces_bar(self, told: Header, asked: float) -> bool:
        """Whether the primary's answer is its newest word: answers may overtake each other."""
        is_later = asked >= self._bar_set_at
        if told.epoch != self._bar.epoch:
            # An epoch is named by the time of its beginning; but clocks go back, and the primary is the one to know.
            return is_later or _order(told.epoch) > _order(self._bar.epoch)
        if told.generation != self._bar.generation:
            return told.generation > self._bar.generation
        return is_later


def _is_answerable(told: Header) -> bool:
    return bool(told.epoch) and told.state in _ANSWERABLE


def _order(epoch: bytes) -> tuple[int, bytes]:
    return len(epoch), epoch
