"""Runs that are waited for: their directory is there, and no file that can be read. Pure.

A run's directory may be made when the job is submitted, hours before its file; a file may be put right late. So however
long it took, the newest of them are looked at soon. There may be any number of directories that never get a file, so
that no more looks are spent on them in a relist period than there are newest.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Set

from jobcache_refresher.scan.schedule import Schedule
from jobcache_refresher.scan.snapshot import KnownRun

NEWEST = 1_000
"""Runs that are looked at once in a relist period."""

Rank = tuple[float, bytes]


class Waiting:
    """Which of the runs that are waited for are looked at, and when."""

    def __init__(self, schedule: Schedule, newest: int = NEWEST) -> None:
        self._schedule = schedule
        self._newest = newest
        self._paths: set[bytes] = set()
        self._oldest: Rank | None = None
        """Rank of the oldest of the newest; None while there are fewer than that."""

    def interval(self, run: KnownRun, waited_for: float, directory: bytes) -> float:
        """Seconds until a run, which was just looked at, is looked at again."""
        self._paths.add(run.path)
        newest = self._oldest is None or _rank(run) >= self._oldest
        return self._schedule.waiting_interval(waited_for, directory, newest=newest)

    def in_busy_groups(
        self, runs: Mapping[bytes, KnownRun], busy: Set[bytes], now: float
    ) -> list[KnownRun]:
        """Those that a poll looks at before they are due: the newest that lie in busy groups, as many as may be.

        Args:
            runs: every run that is known, by path.
            busy: paths of groups.
            now: monotonic time.
        """
        waiting = [run for path in self._paths if (run := runs.get(path)) and run.is_waiting]
        self._paths = {run.path for run in waiting}
        newest = heapq.nlargest(self._newest, waiting, key=_rank)
        self._oldest = _rank(newest[-1]) if len(newest) == self._newest else None
        due = sum(run.look_at <= now for run in newest)
        room = max(0, int(self._newest / self._schedule.polls_a_relist) - due)
        early = (run for run in newest if run.look_at > now and _group(run.path) in busy)
        return [run for run, _ in zip(early, range(room), strict=False)]


def _rank(run: KnownRun) -> Rank:
    """The larger, the newer. Ids of runs begin with a date, which tells more when many were met at once."""
    return run.changed_at, run.path.rpartition(b"/")[2]


def _group(path: bytes) -> bytes:
    return path.rsplit(b"/", 2)[0]
