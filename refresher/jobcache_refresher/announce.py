"""What a refresher tells readers of itself: the fields of ``meta`` that say how it is set up and how it does."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from redis.exceptions import RedisError

from jobcache.models import CacheState
from jobcache.schema import meta
from jobcache_refresher.clock import Clock
from jobcache_refresher.overdue import NextScan
from jobcache_refresher.problems import ProblemBook
from jobcache_refresher.publish.problems import PublishedProblems
from jobcache_refresher.publish.server import EpochError, FencedError
from jobcache_refresher.publish.store import ScanStart, Store
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.settings import Settings
from jobcache_refresher.status import Status

log = logging.getLogger(__name__)

REPORT_INTERVAL = 1.0
"""Seconds between two reports of how far a scan is, at most."""


class Announcer:
    """Writes what readers are told. For the one thread that refreshes, but for ``note_progress``.

    Args:
        settings: what is told of them.
        store: where it is written.
        published_problems: where problems are written.
        status: why the cache is degraded, if it is.
        next_scan: when the next scan should be complete.
        holder: the name of this process.
        clock: what time it is.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        published_problems: PublishedProblems,
        status: Status,
        next_scan: NextScan,
        holder: str,
        clock: Clock,
    ) -> None:
        self._stale_after = settings.stale_after
        self._store = store
        self._published_problems = published_problems
        self.problems = ProblemBook()
        """What is not read of the tree."""
        self._status = status
        self._next_scan = next_scan
        self._clock = clock
        self._description = {
            meta.STATUS_DIR: settings.status_dir,
            meta.MODE: settings.mode,
            meta.MODE_REASON: "",
            meta.POLL_INTERVAL: f"{settings.poll_interval:g}",
            meta.RELIST_INTERVAL: f"{settings.relist_interval:g}",
            meta.REFRESHER: holder,
        }
        self._scope = Scope.HINTS
        self._progress: dict[str, str] = {}
        """How far a scan of everything is; nobody asks that of another scan."""
        self._next_report = float("inf")

    def describe(self, fields: dict[str, str]) -> None:
        """Say something else of how this refresher is set up, from the next completed scan on."""
        self._description |= fields

    def begin_epoch(self, fields: dict[str, str]) -> None:
        """Begin an epoch: readers wait until its first scan is complete.

        Args:
            fields: more fields of ``meta``.
        """
        stale_after = repr(self._stale_after)
        self._store.begin({**self._description, **fields, meta.STALE_AFTER: stale_after})

    def degrade(self, reason: str, *, is_building: bool) -> None:
        """Tell readers why answers may be old or not whole."""
        self._status.say(reason)
        fields = {meta.REASON: reason}
        if not is_building:
            fields[meta.STATE] = CacheState.DEGRADED.value
        self._store.report(fields)

    def begin_scan(self, scope: Scope) -> None:
        """A scan begins."""
        self._scope, self._progress = scope, {}
        wait = 0.0 if scope is Scope.RELIST else self._report_interval
        self._next_report = self._clock.monotonic() + wait

    def note_progress(self, scanned: int, total: int) -> None:
        """The scan has examined so many of so many runs. Called in the scan's thread."""
        if self._scope is Scope.RELIST:
            self._progress = {meta.SCANNED: str(scanned), meta.TOTAL: str(total)}

    def report_progress(self) -> None:
        """Tell readers now and then that a scan is under way: it may be slow, but it is not overdue."""
        now = self._clock.monotonic()
        if now < self._next_report:
            return
        self._next_report = now + self._report_interval
        if not self._next_scan.is_overdue:
            self._next_scan.expect()
        try:
            self._store.report(self._progress)
        except (RedisError, OSError, FencedError, EpochError) as error:
            log.debug("progress was not reported: %s", str(error))

    def adopt_problems(self) -> None:
        """Take over the problems that Redis tells of."""
        self.problems.adopt(self._published_problems.read())

    def note_problems(self, found: Iterable[tuple[bytes, str]], start: ScanStart) -> None:
        """A scan is about to complete that found all these problems, each a path with a reason."""
        self.problems.note(found, start.now)
        self._status.problems = len(self.problems)

    def complete(self, start: ScanStart, fields: dict[str, str]) -> float:
        """Declare a scan complete; returns when, in epoch seconds of the server.

        Args:
            start: where the cache stood when the scan began.
            fields: what it found.
        """
        self._published_problems.write(self.problems.told)
        reason = self._status.degraded
        state = CacheState.DEGRADED if reason else CacheState.READY
        completed_at = self._store.complete(
            start,
            self._stale_after,
            {
                **self._description,
                **fields,
                meta.PROBLEMS: str(len(self.problems)),
                meta.OVERDUE_AFTER: f"{self._next_scan.bound:.3f}",
                meta.STATE: state.value,
                meta.REASON: reason,
            },
        )
        self._next_scan.expect()
        return completed_at

    @property
    def _report_interval(self) -> float:
        return min(REPORT_INTERVAL, self._next_scan.bound / 3)
