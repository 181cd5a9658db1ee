"""When to look where: operations are spent where change can be. Pure.

* A run with a fresh heartbeat is looked at in every poll. Any other is looked at the more rarely the longer it has not
  changed: after a tenth of that time, at least once in a resync.
* A run that is waited for, since its file is not there or cannot be read, is looked at once in a relist if it is one of
  the newest, and in every poll if its group is busy: ``waiting`` says which.
* A directory is listed when its parent shows another state of it, when an equal state would not yet prove an equal
  listing, and at the latest after a period: a poll for the root and for busy groups, a relist for projects and the
  other groups, a resync for names, whose states their groups' listings show. Where a filesystem's directory times prove
  nothing, names are listed as often as their groups.
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
        self.polls_a_relist = max(1.0, relist / poll)
        self._relist = max(0.0, relist - poll)
        # The period is a promise, and a poll may come just before it is over.
        self._resync = max(resync - poll, poll)

    def quiet_interval(self, unchanged_for: float, directory: bytes) -> float:
        """Seconds until a run that has not changed for some seconds is looked at again."""
        return self._spread(min(max(unchanged_for / BACKOFF, self.poll), self._resync), directory)

    def waiting_interval(self, waited_for: float, directory: bytes, *, newest: bool) -> float:
        """Seconds until a run is looked at again of which no file could be read for some seconds."""
        quiet = self.quiet_interval(waited_for, directory)
        relist = self._spread(self._relist, directory)
        return min(quiet, relist) if newest else max(quiet, relist)

    def listing_interval(self, depth: int, directory: bytes, *, times_prove: bool = True) -> float:
        """Seconds until a directory is listed again although it shows the same state."""
        if depth == NAME_DEPTH and times_prove:
            return self._spread(self._resync, directory)
        return self._spread(self._relist, directory)

    def _spread(self, interval: float, directory: bytes) -> float:
        return interval * (0.75 + 0.25 * crc32(directory) / 2**32)
