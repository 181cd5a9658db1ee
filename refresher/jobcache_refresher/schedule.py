"""When to look where: operations are spent where change can be. Pure.

* A run with a fresh heartbeat is looked at in every poll. Any other is looked at the more rarely the longer it has not
  changed: after a tenth of that time, at least once in a resync.
* A directory is listed when its parent shows another mtime for it, when an equal mtime would not yet prove an equal
  listing, and at the latest after a period: a poll for the root and for busy groups, a relist for projects and the
  other groups, a resync for names, whose mtimes their groups' listings show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

NAME_DEPTH = 3
"""A job name's directory lies this deep; its group's one less, its project's one less again."""

ACTIVE_FOR = 600.0
"""Seconds for which a group is busy after something changed in it."""

BACKOFF = 10.0
"""What has not changed for so many intervals is looked at after one of them."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Intervals in seconds, and a source of numbers from 0 to 1 that spreads what would fall together."""

    poll: float
    relist: float
    resync: float
    jitter: Callable[[], float]

    def quiet_interval(self, unchanged_for: float) -> float:
        """Seconds until a run that has not changed for some seconds is looked at again."""
        interval = min(max(unchanged_for / BACKOFF, self.poll), max(self.resync, self.poll))
        return interval * self._spread()

    def listing_interval(self, depth: int) -> float:
        """Seconds until a directory is listed again although its mtime is the same."""
        period = self.resync if depth == NAME_DEPTH else self.relist
        # The relist period is a promise, and a poll may come just before it is over.
        return max(0.0, period - self.poll) * self._spread()

    def _spread(self) -> float:
        return 0.75 + 0.25 * self.jitter()
