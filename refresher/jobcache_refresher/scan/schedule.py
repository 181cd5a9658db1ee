"""When to look where: operations are spent where change can be. Pure.

* A run with a fresh heartbeat is looked at in every poll. Any other is looked at the more rarely the longer it has not
  changed: after a tenth of that time, at least once in a resync.
* A directory is listed when its parent shows another mtime for it, when an equal mtime would not yet prove an equal
  listing, and at the latest after a period: a poll for the root and for busy groups, a relist for projects and the
  other groups, a resync for names, whose mtimes their groups' listings show.
"""

from __future__ import annotations

from zlib import crc32

NAME_DEPTH = 3
"""A job name's directory lies this deep; its group's one less, its project's one less again."""

ACTIVE_FOR = 600.0
"""Seconds for which a group is busy after something changed in it."""

BACKOFF = 10.0
"""What has not changed for so many intervals is looked at after one of them."""


class Schedule:
    """Intervals in seconds.

    They are spread by directory, so that a large tree does not fall due at once, and what lies in one directory still
    does: once the first of it was looked up, a network filesystem has the way to the rest at hand.
    """

    def __init__(self, poll: float, relist: float, resync: float) -> None:
        self.poll = poll
        self._relist = max(0.0, relist - poll)
        # The period is a promise, and a poll may come just before it is over.
        self._resync = max(resync - poll, poll)

    def quiet_interval(self, unchanged_for: float, directory: bytes) -> float:
        """Seconds until a run that has not changed for some seconds is looked at again."""
        return self._spread(min(max(unchanged_for / BACKOFF, self.poll), self._resync), directory)

    def listing_interval(self, depth: int, directory: bytes) -> float:
        """Seconds until a directory is listed again although its mtime is the same."""
        if depth == NAME_DEPTH:
            return self._spread(self._resync, directory)
        return self._spread(self._relist, directory)

    def _spread(self, interval: float, directory: bytes) -> float:
        return interval * (0.75 + 0.25 * crc32(directory) / 2**32)
