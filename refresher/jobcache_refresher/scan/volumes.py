"""Filesystems within the tree: which directories are mounts, subvolumes or datasets, and what is believed. Pure.

The status directory lies on a volume, and any directory below it may be the root of another. A volume that is not
mounted shows the empty directory beneath; another one may have taken its place. What is known of a volume then stays,
and nothing below it is looked at, until it is back or an operator says that it is meant.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from jobcache.ids import decode_name, encode_name
from jobcache_refresher.scan.snapshot import Snapshot
from jobcache_refresher.text import shown

NAMED = 5
"""Volumes that a reason names, of those that are not read."""
MOST_PUBLISHED = 1000
"""Volumes that a new leader is told of, those of fewest names first: anybody may make subvolumes."""

GONE = "is gone"
NOT_MOUNTED = "is not mounted"


class Sight(NamedTuple):
    """What a look at the root of a volume showed."""

    device: int
    fs_type: str | None
    """As the mount table names it; None where nothing is mounted, or where that cannot be told."""
    names: Set[bytes]


class Volume(NamedTuple):
    """A volume, as it was when it was last believed."""

    device: int | None = None
    """None if only an earlier leader saw it."""
    fs_type: str | None = None
    """None for a subvolume, which is no mount, and where types cannot be told."""

    def doubt(self, seen: Sight, known: Set[bytes]) -> str | None:
        """Why what was seen in its place is not believed; None if it is.

        Args:
            seen: what it shows now.
            known: names that should be in its root.
        """
        if not known:
            return None
        if not seen.names:
            return "turned empty"
        keeps_some = not known.isdisjoint(seen.names)
        # Device numbers are used again: where nothing of what was known is left, the type is looked at as well.
        if seen.device == self.device and keeps_some:
            return None
        if self.fs_type and seen.fs_type and self.fs_type != seen.fs_type:
            return f"is a filesystem of type {seen.fs_type}, not {self.fs_type}"
        # A new mount of the same volume has another device number, and the same names.
        if seen.device != self.device and not keeps_some:
            return "shows another filesystem"
        return None


class Fault(NamedTuple):
    """Why nothing that a volume shows counts now."""

    reason: str
    is_releasable: bool
    """Whether it was looked at without error, so that an operator may say that what was known is gone for good."""


class ReportedVolume(NamedTuple):
    """A volume below the root, as readers and the next leader are told of it."""

    path: bytes
    fs_type: str | None
    fault: Fault | None


class Volumes:
    """The volumes below the root, by path."""

    def __init__(self) -> None:
        self.known: dict[bytes, Volume] = {}
        """What each was when it was last believed."""
        self.faults: dict[bytes, Fault] = {}
        """Those that are not believed now."""
        self._root_device = 0
        self._types: Mapping[bytes, str] = {}
        self._released: set[bytes] = set()
        """What an operator gave up, until it is looked at: it is believed then, whatever it shows."""

    def begin(self, root_device: int, types: Mapping[bytes, str] | None) -> None:
        """A scan begins.

        Args:
            root_device: of the status directory.
            types: filesystem type by path of whatever is mounted below the root; None if that was not looked at.
        """
        self._root_device = root_device
        if types is not None:
            self._types = types

    def adopt(self, known: Mapping[bytes, Volume]) -> None:
        """Put what an earlier leader knew in place of all that is known."""
        self.known, self.faults = dict(known), {}
        self._released.clear()

    @property
    def paths(self) -> Set[bytes]:
        """Where a volume is mounted, or was known."""
        return self._types.keys() | self.known.keys()

    def concern(self, path: bytes, device: int) -> bool:
        """Whether a directory on this device is, or was, the root of a volume."""
        return path in self.known or path in self._types or device != self._device_above(path)

    def judge(self, path: bytes, device: int, names: Set[bytes], known: Set[bytes]) -> str | None:
        """Believe the root of a volume or not; returns the reason if not.

        Args:
            path: of a directory that ``concern`` holds for.
            device: on which it lies now.
            names: what it shows.
            known: names in it below which there are jobs.
        """
        seen = Sight(device, self._types.get(path), names)
        is_plain = seen.fs_type is None and device == self._device_above(path)
        reason = self._doubt(path, seen, known, is_plain=is_plain)
        if reason is not None:
            self.faults[path] = Fault(reason, is_releasable=True)
            return reason
        self.faults.pop(path, None)
        before = self.known.pop(path, Volume())
        if not is_plain:
            # What is mounted only when it is entered was not in the table yet.
            self.known[path] = Volume(device, seen.fs_type or before.fs_type)
        return None

    def is_mount(self, path: bytes) -> bool:
        """Whether a volume is known there that may be unmounted. A subvolume is removed as a directory is."""
        return path in self.known and self.known[path].fs_type is not None

    def miss(self, path: bytes) -> str | None:
        """A directory is missing. Returns a reason if it was a mount, whose jobs stay; None if it is an absence."""
        if not self.is_mount(path):
            return None
        self.faults[path] = Fault(GONE, is_releasable=True)
        return GONE

    def fail(self, path: bytes, reason: str) -> None:
        """A directory cannot be looked at; if it is a volume, what lies below is not looked at either."""
        if path in self._types:
            self.known.setdefault(path, Volume(None, self._types[path]))
        if path in self.known:
            self.faults[path] = Fault(reason, is_releasable=False)

    def end(self, snapshot: Snapshot) -> None:
        """End of a scan: volumes below a directory that is gone count as gone too."""
        for path in list(self.known):
            if snapshot.is_gone(path):
                self.miss(path)
            if path not in snapshot.directories and path not in snapshot.runs:
                self.known.pop(path)
                self.faults.pop(path, None)

    def release(self) -> list[bytes]:
        """An operator says that volumes are meant to be as they are; returns their paths."""
        released = [path for path, fault in self.faults.items() if fault.is_releasable]
        for path in released:
            self.known.pop(path, None)
            self.faults.pop(path, None)
        self._released.update(released)
        return released

    def covers(self, path: bytes) -> bool:
        """Whether a path lies in a volume that is not believed now."""
        if self.faults:
            while path:
                if path in self.faults:
                    return True
                path = path.rpartition(b"/")[0]
        return False

    def report(self) -> list[ReportedVolume]:
        """Every volume, those of fewest names first."""
        paths = sorted(self.known, key=lambda path: (path.count(b"/"), path))
        return [
            ReportedVolume(path, self.known[path].fs_type, self.faults.get(path)) for path in paths
        ]

    def _doubt(self, path: bytes, seen: Sight, known: Set[bytes], *, is_plain: bool) -> str | None:
        if path in self._released:
            self._released.discard(path)
            return None
        volume = self.known.get(path)
        if volume is None:
            # An ordinary directory until now: what is mounted over it hides its jobs.
            volume = self.known[path] = Volume(self._device_above(path))
        elif is_plain and volume.fs_type is not None:
            return NOT_MOUNTED
        return volume.doubt(seen, known)

    def _device_above(self, path: bytes) -> int:
        """The device on which a directory lies unless it is the root of a volume."""
        while path and self.known:
            path = path.rpartition(b"/")[0]
            volume = self.known.get(path)
            if volume is not None and volume.device is not None:
                return volume.device
        return self._root_device


def describe_faults(volumes: Iterable[ReportedVolume]) -> str:
    """Which volumes are not read, in a line for people; empty if all are."""
    faults = [f"{shown(path)} {fault.reason}" for path, _, fault in volumes if fault]
    if not faults:
        return ""
    more = f", and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    return (
        f"volumes that are not read: {', '.join(faults[:NAMED])}{more}; nothing below them is deleted "
        "before they are back or 'jobcache-refresher release' says that it is meant"
    )


def encode_volumes(volumes: Sequence[ReportedVolume]) -> str:
    """Volumes as ``meta`` holds them; not more than ``MOST_PUBLISHED``."""
    return json.dumps(
        [
            {
                "path": decode_name(path),
                "type": fs_type,
                **({"fault": fault.reason, "releasable": fault.is_releasable} if fault else {}),
            }
            for path, fs_type, fault in volumes[:MOST_PUBLISHED]
        ]
    )


def decode_volumes(text: bytes | str | None) -> list[ReportedVolume]:
    """The volumes that ``encode_volumes`` wrote; whatever is of another form is passed over."""
    try:
        return [
            ReportedVolume(
                encode_name(row["path"]),
                row["type"],
                Fault(row["fault"], bool(row["releasable"])) if "fault" in row else None,
            )
            for row in json.loads(text or "[]")
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []
