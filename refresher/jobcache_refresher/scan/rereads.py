"""Runs that are shown as they were read in another way than now: which of them a scan reads anew. Pure."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from jobcache_refresher.clock import Clock
from jobcache_refresher.scan.snapshot import NEVER, KnownRun, Snapshot

PER_SECOND = 200
"""Most runs that are read anew in a second, over the time between two scans."""


class Rereads:
    """Hands out the outdated runs of a snapshot, those that were heard of last first, at a bounded rate.

    Args:
        clock: what time it is.
        longest_pause: seconds between two scans for which runs are handed out at once; a longer pause counts as this.
    """

    def __init__(self, clock: Clock, longest_pause: float) -> None:
        self._clock = clock
        self._longest_pause = longest_pause
        self._queue: list[bytes] = []
        """The last of them is the next."""
        self._taken_at = NEVER

    def begin(self, snapshot: Snapshot) -> None:
        """Take up the outdated runs of a snapshot."""
        runs = (snapshot.runs[path] for path in snapshot.outdated)
        self._queue = [run.path for run in sorted(runs, key=_last_sign)]
        self._taken_at = self._clock.monotonic()

    def take(self, outdated: AbstractSet[bytes]) -> list[bytes]:
        """The runs to be read now, of those that are outdated still."""
        if not self._queue:
            return []
        now = self._clock.monotonic()
        left = int(PER_SECOND * min(now - self._taken_at, self._longest_pause))
        if left > 0:
            self._taken_at = now
        due: list[bytes] = []
        while self._queue and len(due) < left:
            path = self._queue.pop()
            if path in outdated:
                due.append(path)
        return due


def _last_sign(run: KnownRun) -> tuple[float, float]:
    """Live runs come last, since their heartbeats are the latest; then those whose files changed last."""
    return NEVER if run.beat is None else run.beat, run.changed_at
