"""What the directory times and the inode numbers of a filesystem are worth. Pure: discovery tells it what it saw.

A directory's times change whenever a name is added or removed, on most filesystems. Object stores and some others show
1970, the time of the mount, or a time that never changes. Inode numbers may be one for all, or new each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from jobcache_refresher.scan.tree import Child

SEVERAL = 10
"""Numbers that changed although nothing else did, before numbers prove nothing."""

NO_NUMBER = 0xFFFFFFFF
"""What libfuse puts into a listing for a number that it does not know."""


class Times(Enum):
    """What the times of directories prove."""

    UNPROVEN = "only one value was seen so far"
    DIFFER = "equal times prove equal names"
    WORTHLESS = "they are 1970, or names changed and the times did not"


class Numbers:
    """Whether one kind of inode numbers tells one file or directory from another."""

    def __init__(self) -> None:
        self._doubts = 0

    @property
    def prove(self) -> bool:
        """Whether another number means another file or directory."""
        return self._doubts < SEVERAL

    def doubt(self) -> None:
        """A number changed although the same thing bears it."""
        self._doubts += 1

    def disprove(self) -> None:
        """Different things bear one number."""
        self._doubts = SEVERAL


class Filesystem:
    """One filesystem of the tree."""

    def __init__(self) -> None:
        self.times = Times.UNPROVEN
        """Of its directories."""
        self.inodes = Numbers()
        """As ``stat`` gives them."""
        self.entry_numbers = Numbers()
        """As a listing gives them along with the names."""
        self._sample: tuple[bytes, int] | None = None
        """A directory, and a number that its listing gave."""
        self._first: tuple[int, int] | None = None
        self._suspects: dict[bytes, float] = {}

    @property
    def times_prove(self) -> bool:
        """Whether a directory with equal times has equal names."""
        return self.times is Times.DIFFER

    def meet_times(self, times: tuple[int, int]) -> None:
        """A directory shows these times."""
        if self.times is not Times.UNPROVEN:
            return
        if max(times) <= 0:
            self.times = Times.WORTHLESS
        elif self._first is None:
            self._first = times
        elif self._first != times:
            self.times = Times.DIFFER

    def meet_numbers(self, path: bytes, children: Mapping[bytes, Child]) -> None:
        """A directory's listing shows these numbers. Every child is another directory, so none may come twice."""
        numbers = {child.inode for child in children.values()}
        if len(numbers) < len(children) or NO_NUMBER in numbers:
            self.entry_numbers.disprove()
        elif self._sample is None or self._sample[1] in numbers:
            if self._sample is not None and self._sample[0] != path:
                self.entry_numbers.doubt()  # or it was moved, which happens once
            self._sample = (path, next(iter(numbers))) if numbers else None

    def suspect(self, path: bytes, now: float) -> None:
        """A directory had other names though its times are the same, as its parent showed them some time ago."""
        if self.times is not Times.WORTHLESS:
            self._suspects.setdefault(path, now)

    def clear(self, path: bytes) -> None:
        """Its times changed: they had only been shown late."""
        self._suspects.pop(path, None)

    def meet_again(self, before: Child, after: Child) -> bool:
        """A directory is shown again; returns whether in another state."""
        if before.times != after.times:
            return True
        if before.inode != after.inode and self.inodes.prove:
            self.inodes.doubt()
            return True
        return False

    def judge(self, path: bytes, now: float, settle: float) -> None:
        """A directory's parent shows the same times again: if it is suspected, they are worthless."""
        since = self._suspects.get(path)
        if since is not None and now - since > settle:
            self.times = Times.WORTHLESS
            self._suspects.clear()
