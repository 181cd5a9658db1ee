"""Scans that may hang: a filesystem that does not answer must stop neither the lease, nor the end of the process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue

from jobcache.errors import JobCacheError
from jobcache_refresher.clock import Clock
from jobcache_refresher.scan.scanner import Readings, Scan, Scanner
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.snapshot import NEVER
from jobcache_refresher.workers import Pending, Workers

GLANCE = 0.1
"""Seconds between two looks at whether a scan goes on."""


class FilesystemHungError(Exception):
    """The filesystem has not answered for too long. The scan goes on if it ever does."""


class StoppedError(JobCacheError):
    """The refresher was stopped in the middle of a scan."""


class ScanSupervisor:
    """Has a thread of its own scan, one scan at a time, and gives up waiting when it makes no step.

    Args:
        scanner: what it scans with.
        timeout: seconds without a step after which the filesystem counts as hung.
        stop: when set, nobody waits any more.
        on_step: called, in the thread that waits, now and then while the filesystem answers.
    """

    def __init__(
        self,
        scanner: Scanner,
        timeout: float,
        stop: threading.Event,
        clock: Clock,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        self._scanner = scanner
        self._timeout = timeout
        self._stop = stop
        self._clock = clock
        self._on_step = on_step
        self._thread = Workers(1, "jobcache-patience")
        self._hung: Pending[Scan] | None = None

    def waits_for_hung_scan(self) -> bool:
        """Whether a scan that hung has still not come back. One that has is absorbed: what it read is read again."""
        if self._hung is not None and self._hung.wait(0):
            self._take_late(self._hung)
            self._hung = None
        return self._hung is not None

    def scan(
        self,
        scope: Scope,
        hints: Iterable[bytes],
        *,
        fresh_since: float,
        now: float = NEVER,
        take: Callable[[Readings], None] = lambda readings: None,
    ) -> Scan:
        """``Scanner.scan``; ``take`` is called here with what was read, while the scan goes on.

        Raises:
            FilesystemHungError: the filesystem does not answer.
            StoppedError: the refresher was stopped.
            RootFaultError: as ``Scanner.scan``.
        """
        if self.waits_for_hung_scan():
            raise FilesystemHungError("it still does not answer")
        given: SimpleQueue[Readings | None] = SimpleQueue()

        def scan_and_give() -> Scan:
            try:
                return self._scanner.scan(
                    scope, hints, fresh_since=fresh_since, now=now, give=given.put
                )
            finally:
                given.put(None)

        pending = self._thread.submit(scan_and_give)
        steps, since = self._scanner.steps, self._clock.monotonic()
        while True:
            try:
                readings = given.get(timeout=GLANCE)
            except Empty:
                readings = {}
            if self._stop.is_set():
                raise StoppedError("stopped in the middle of a scan")
            if readings is None:
                return pending.result()
            if readings:
                take(readings)
            if readings or self._scanner.steps != steps:
                steps, since = self._scanner.steps, self._clock.monotonic()
                self._on_step()
            elif self._clock.monotonic() - since > self._timeout:
                self._hung = pending
                raise FilesystemHungError(f"it has not answered for {self._timeout:g} s")

    def close(self) -> None:
        """Close the scanner once no scan is under way, and let the thread go."""
        closed = self._thread.submit(self._scanner.close)
        self._thread.close()
        closed.wait(GLANCE * 10)

    def _take_late(self, pending: Pending[Scan]) -> None:
        """Have the next scan find what one found after nobody waited for it."""
        try:
            late = pending.result()
        except Exception:
            return
        self._scanner.give_back(late)
