"""Which missing jobs are elsewhere now: somebody renamed a directory above them. Pure.

A missing run has *moved* if the same run was first met in another place in a scan that began after the last one that
found the old place.

The same run:
    It has the same start time, job key and config, and besides one of these:

    - the same inode. A rename keeps it, also when the job has written its file again since. A copy has another.
    - the same run id, modification time and size. Some filesystems give new inode numbers each time, and ``mv`` between
      two filesystems copies and keeps no more than this. The contents must agree, since other filesystems show one time
      for all files.

    A run without a start time is known by the second sign only. Each new run stands for one missing run, so equal signs
    of many runs excuse no more of them than there are new ones.

First met after:
    A copy (``cp -a``, ``cp -al``) is there beside the original. If both were found by one scan, the original has not
    moved: when it vanishes later, it is lost. So a backup inside the tree excuses no loss.

    What this cannot tell apart is a copy and a loss between two listings of the old place: that is what ``mv`` between
    two filesystems does. Every job is shown in its new place then.

What was published before this refresher led, or while an epoch is built, is nothing new.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from jobcache.schema.job import FINGERPRINT
from jobcache_refresher.records import Fields, Records
from jobcache_refresher.scan.absences import Absence
from jobcache_refresher.scan.tree import Fingerprint

Sign = tuple[object, ...]
"""What is the same for the same run."""


class Found(NamedTuple):
    """What a scan tells of missing and new runs."""

    moved: set[bytes]
    """Missing runs that are published in their new places already."""
    new: int
    """How many runs were published since the last time that have not moved there."""


class Moves:
    """Tells runs that moved from those that are lost.

    Args:
        memory: seconds for which a new run is remembered. Within so long a scan must find that its old place is gone.
    """

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._met_at: dict[bytes, float] = {}
        """New runs that are in nobody's place yet, each with the monotonic time when the scan began that met it."""
        self._noted: set[bytes] = set()
        """Runs that are new since ``find`` was last called."""
        self._began = float("-inf")
        """Monotonic time when the last scan began that looked at more than hints."""
        self._missing: set[bytes] = set()
        """Runs that were missing when everything was looked at last."""
        self._moved: set[bytes] = set()
        """Runs that are missing and were found elsewhere."""

    def note_new(self, path: bytes, met_at: float) -> None:
        """A run was published where none was, by a scan that began at a monotonic time."""
        self._met_at[path] = met_at
        self._noted.add(path)

    def find(
        self, missing: Mapping[bytes, Absence], records: Records, *, began: float, saw_all: bool
    ) -> Found:
        """Which of some missing runs have moved.

        Args:
            missing: runs that are missing.
            records: what is published.
            began: monotonic time when the scan began.
            saw_all: whether the scan looked at more than hints.
        """
        if saw_all:
            self._note_returns(self._missing - missing.keys() & records.keys(), began)
            self._missing = set(missing)
            self._moved &= missing.keys()
            # What the scan before this one met is remembered, however long that scan took.
            since = self._began - self._memory
            self._began = began
            self._met_at = {path: at for path, at in self._met_at.items() if at >= since}
        self._match([path for path in missing if path in records], missing, records)
        noted, self._noted = self._noted, set()
        return Found(self._moved & missing.keys(), len(noted & self._met_at.keys()))

    def _note_returns(self, paths: Iterable[bytes], began: float) -> None:
        """A rename that is taken back: the runs are new in the place where they still are published."""
        for path in paths:
            self._met_at[path] = began

    def _match(
        self, lost: Iterable[bytes], missing: Mapping[bytes, Absence], records: Records
    ) -> None:
        for sign_of in (_inode_sign, _file_sign):
            lost = [path for path in lost if path not in self._moved]
            if not lost or not self._met_at:
                return
            places = defaultdict(list)
            for place in sorted(self._met_at, key=self._met_at.__getitem__):
                if place in records and place not in missing:
                    places[sign_of(place, records[place].fields)].append(place)
            places.pop(None, None)  # of those, nothing can be told
            for path in lost:
                same = places.get(sign_of(path, records[path].fields), [])
                if self._take_place(same, missing[path].seen_at):
                    self._moved.add(path)

    def _take_place(self, places: list[bytes], seen_at: float) -> bool:
        """Take the last of some places, if it was met after the old place was seen; whether there was one."""
        if not places or self._met_at[places[-1]] <= seen_at:
            return False
        del self._met_at[places.pop()]
        return True


def _inode_sign(path: bytes, fields: Fields) -> Sign | None:
    """What a rename keeps, also of a file that is written again; None if that cannot be told."""
    fingerprint = Fingerprint.parse(fields.get(FINGERPRINT, b""))
    start = fields.get(b"start_time")
    if fingerprint is None or not start:
        return None
    return fingerprint.inode, start, fields.get(b"job_key"), fields.get(b"config")


def _file_sign(path: bytes, fields: Fields) -> Sign | None:
    """What ``mv`` keeps between two filesystems; None if that cannot be told."""
    fingerprint = Fingerprint.parse(fields.get(FINGERPRINT, b""))
    if fingerprint is None:
        return None
    run_id = path.rpartition(b"/")[2]
    content = fields.get(b"start_time"), fields.get(b"job_key"), fields.get(b"config")
    return run_id, fingerprint.mtime_ns, fingerprint.size, *content
