"""Which filesystem a path lies on, and whether inotify tells of every write there."""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

MOUNT_TABLE = "/proc/self/mountinfo"

LOCAL_TYPES = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2"}
    | {"overlay", "ramfs", "reiserfs", "tmpfs", "xfs", "zfs"}
)
"""Filesystems that this machine alone writes to, through its kernel, which therefore sees every write. Any other type,
known or not, may have writers that inotify never hears of."""

_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the mount table."""

    id: int
    parent: int
    """Id of the mount that it is mounted on."""
    point: bytes
    """Absolute path at which it shows."""
    fs_type: str
    what: bytes = b""
    """Number of the device, and the directory on it that shows."""


def parse_mountinfo(text: bytes) -> list[Mount]:
    """The mounts in the text of ``/proc/<pid>/mountinfo``, oldest first; lines of another form are passed over."""
    return [mount for line in text.splitlines() if (mount := _parse_line(line))]


def _parse_line(line: bytes) -> Mount | None:
    # 36 35 98:0 /root/in/fs /mount/point options [optional ...] - type source super-options
    fields = line.split(b" ")
    try:
        separator = fields.index(b"-", 6)
        return Mount(
            int(fields[0]),
            int(fields[1]),
            _unescape(fields[4]),
            _unescape(fields[separator + 1]).decode("utf-8", "backslashreplace"),
            fields[2] + b" " + fields[3],
        )
    except (ValueError, IndexError):
        return None


def _unescape(field: bytes) -> bytes:
    return _ESCAPE.sub(lambda octal: bytes([int(octal[1], 8) & 0xFF]), field)


def find_mount(mounts: Sequence[Mount], path: bytes) -> Mount | None:
    """The mount that an absolute path, free of symbolic links, lies on; None if the table holds none.

    It goes down the path as the kernel does, from mount to mount. The longest mount point alone would not do: one
    below a directory that was mounted over later is still in the table, and out of sight.
    """
    ids = {mount.id for mount in mounts}
    found: Mount | None = None
    below = [mount for mount in mounts if mount.parent not in ids or mount.parent == mount.id]
    while nearest := _nearest(below, path):
        found = nearest
        below = [mount for mount in mounts if mount.parent == nearest.id and mount != nearest]
    return found


def _nearest(mounts: Iterable[Mount], path: bytes) -> Mount | None:
    """The first that the way to a path meets; of several in one place the last, which covers the others."""
    nearest: Mount | None = None
    for mount in mounts:
        met = _contains(mount.point, path)
        if met and (nearest is None or len(mount.point) <= len(nearest.point)):
            nearest = mount
    return nearest


def _contains(directory: bytes, path: bytes) -> bool:
    return path == directory or path.startswith(directory.rstrip(b"/") + b"/")


def fs_type_of(path: str | bytes) -> str | None:
    """The filesystem type of a path, as the mount table names it; None if that cannot be told, or this is not Linux."""
    mount = find_mount(_read_table(), _resolved(path))
    return mount.fs_type if mount else None


def mounts_below(path: str | bytes) -> dict[bytes, Mount]:
    """What is mounted below a directory, by its path relative to it; nothing where that cannot be told."""
    _, below = _mounts_at(_resolved(path))
    return below


def types_below(place: bytes) -> dict[bytes, str]:
    """Filesystem types by path relative to a directory: its own, as the empty path, and of what is mounted below it.

    What is mounted only when it is entered is not there before. Nothing is, where types cannot be told.

    Args:
        place: absolute path, free of symbolic links.
    """
    own, below = _mounts_at(place)
    if own is None:
        return {}
    return {b"": own.fs_type} | {
        path: mount.fs_type for path, mount in below.items() if mount.fs_type != "autofs"
    }


def _mounts_at(place: bytes) -> tuple[Mount | None, dict[bytes, Mount]]:
    """The mount that a directory lies on, and what is mounted below it; None and nothing if that cannot be told."""
    mounts = _read_table()
    own = find_mount(mounts, place)
    if own is None:
        return None, {}
    return own, dict(visible_below(mounts, own, place.rstrip(b"/") + b"/"))


def _read_table() -> list[Mount]:
    """The mount table, oldest first; empty where there is none."""
    if sys.platform != "linux":
        return []
    try:
        with open(MOUNT_TABLE, "rb") as table:
            return parse_mountinfo(table.read())
    except OSError:
        return []


def _resolved(path: str | bytes) -> bytes:
    return os.path.realpath(os.fsencode(path))


class MountAlarm:
    """Tells whether something was mounted or unmounted. Costs one call of the system, however long the table is."""

    def __init__(self) -> None:
        self._table: int | None = None
        self._poller = select.poll()
        try:
            self._table = os.open(MOUNT_TABLE, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # no table here: nothing will be told
        self._poller.register(self._table, select.POLLPRI)

    def rings(self) -> bool:
        """Whether the table changed since this was last asked."""
        return bool(self._poller.poll(0))

    def close(self) -> None:
        """Listen no more."""
        if self._table is not None:
            self._poller.unregister(self._table)
            os.close(self._table)
            self._table = None


def events_are_complete(fs_type: str | None) -> bool:
    """Whether inotify sees every write on a filesystem of this type."""
    return fs_type in LOCAL_TYPES


def choose_mode(asked: str, fs_type: str | None) -> tuple[str, str]:
    """The mode in effect, and one line that says why if it is not the one asked for, else an empty one.

    Args:
        asked: ``polling``, ``watchdog`` or ``auto``.
        fs_type: of the status directory; None if it is unknown.
    """
    if asked == "polling":
        return "polling", ""
    if events_are_complete(fs_type):
        return "watchdog", f"inotify sees every write on {fs_type}" if asked == "auto" else ""
    where = f"inotify may miss writes on {fs_type}" if fs_type else "the filesystem type is unknown"
    return "polling", where


def visible_below(
    mounts: Sequence[Mount], own: Mount, start: bytes
) -> Iterator[tuple[bytes, Mount]]:
    """What is mounted below a directory and not covered by another mount, with its path relative to the directory.

    Args:
        mounts: the mount table, oldest first.
        own: the mount on which the directory lies.
        start: its absolute path, with a slash at the end.
    """
    below: dict[int, dict[bytes, Mount]] = {}
    for mount in mounts:
        if mount.point.startswith(start) and mount.id != mount.parent:
            below.setdefault(mount.parent, {})[mount.point[len(start) :]] = mount
    waiting = [(b"", own)]
    while waiting:
        above, parent = waiting.pop()
        there = below.pop(parent.id, {})
        if (over := there.get(above)) is not None and above:
            waiting.append((above, over))
            continue
        if above:
            yield above, parent
        for path, mount in there.items():
            if not any(path[:at] in there for at in _slashes(path)):
                waiting.append((path, mount))


def _slashes(path: bytes) -> Iterator[int]:
    return (at for at, byte in enumerate(path) if byte == ord("/"))
