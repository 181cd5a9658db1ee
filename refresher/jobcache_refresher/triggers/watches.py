"""Which directories are watched: watch descriptors and paths, in both directions. Pure bookkeeping."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

from jobcache_refresher.scan.snapshot import ROOT

if TYPE_CHECKING:
    from watchdog.observers.inotify_c import WatchDescriptor


class Watches:
    """Each watched directory, by its watch descriptor. Paths are relative to the status directory."""

    def __init__(self) -> None:
        self._paths: dict[WatchDescriptor, bytes] = {}
        self._descriptors: dict[bytes, WatchDescriptor] = {}
        self._below: dict[bytes, set[bytes]] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, path: bytes) -> bool:
        return path in self._descriptors

    @property
    def descriptors(self) -> Set[WatchDescriptor]:
        """The descriptor of every watched directory."""
        return self._paths.keys()

    def path_of(self, descriptor: WatchDescriptor) -> bytes | None:
        """Where the directory with this descriptor lies; None if it is not watched any more."""
        return self._paths.get(descriptor)

    def has_below(self, path: bytes) -> bool:
        """Whether a directory right below a path is watched."""
        return bool(self._below.get(path))

    def add(self, descriptor: WatchDescriptor, path: bytes) -> None:
        """A directory is watched. A descriptor that is known already was moved: its old path is dropped."""
        before = self._paths.get(descriptor)
        if before is not None and before != path:
            self.drop(descriptor)
        self._paths[descriptor] = path
        self._descriptors[path] = descriptor
        if path != ROOT:
            self._below.setdefault(_parent(path), set()).add(path)

    def drop(self, descriptor: WatchDescriptor) -> None:
        """A watch ended; one that is not known is passed over."""
        path = self._paths.pop(descriptor, None)
        if path is None or self._descriptors.get(path) != descriptor:
            return  # in the second case another directory bears the name by now
        del self._descriptors[path]
        self._below.pop(path, None)
        siblings = self._below.get(_parent(path))
        if siblings is not None:
            siblings.discard(path)

    def take(self, path: bytes) -> list[WatchDescriptor]:
        """Drop a directory and everything below it; returns the descriptors, which the caller gives back."""
        taken = [
            descriptor for below in self._below.pop(path, ()) for descriptor in self.take(below)
        ]
        descriptor = self._descriptors.get(path)
        if descriptor is not None:
            self.drop(descriptor)
            taken.append(descriptor)
        return taken


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]
