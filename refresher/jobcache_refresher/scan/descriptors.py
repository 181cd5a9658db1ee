"""Descriptors of live runs, so that a look at a heartbeat costs one operation, not one for each name of the path."""

from __future__ import annotations

from dataclasses import dataclass

from jobcache_refresher.scan.tree import Fingerprint, Tree


@dataclass(slots=True)
class Descriptors:
    """A run's directory and, once it was read, its file."""

    directory: int
    inode: int
    """Of the directory, as its parent's listing shows it."""
    file: int | None = None


class DescriptorCache:
    """At most ``most`` descriptors, two for each run. A run beyond them is looked at by its path."""

    def __init__(self, tree: Tree, most: int) -> None:
        self._tree = tree
        self._most = most // 2
        self._held: dict[bytes, Descriptors] = {}

    def __len__(self) -> int:
        return len(self._held)

    def of(self, path: bytes, inode: int) -> Descriptors | None:
        """The descriptors of a run, opened if need be; None when there are too many, or it cannot be opened.

        A directory that was replaced, as its inode tells, is opened anew.
        """
        held = self._held.get(path)
        if held is not None and held.inode == inode:
            return held
        self.drop(path)
        if len(self._held) >= self._most:
            return None
        try:
            held = self._held[path] = Descriptors(self._tree.directory_descriptor(path), inode)
        except OSError:
            return None  # looking by path tells why
        return held

    def fingerprint(self, descriptors: Descriptors) -> Fingerprint | None:
        """The held file's fingerprint; None when no file is held.

        Equal to what is known, it proves that nothing changed. Different, it proves nothing: the file may have been
        replaced, and the one that is held lie in a trash. Look by name.
        """
        return (
            None
            if descriptors.file is None
            else self._tree.descriptor_fingerprint(descriptors.file)
        )

    def renew(self, descriptors: Descriptors, name: bytes) -> None:
        """Hold the file that bears the name now."""
        old, descriptors.file = descriptors.file, None
        if old is not None:
            self._tree.release(old)
        try:
            descriptors.file = self._tree.file_descriptor(name, descriptors.directory)
        except OSError:
            return  # the next look goes by name

    def drop(self, path: bytes) -> None:
        """Close a run's descriptors, if there are any."""
        held = self._held.pop(path, None)
        if held is not None:
            self._tree.release(held.directory)
            if held.file is not None:
                self._tree.release(held.file)

    def drop_all(self) -> None:
        """Close every descriptor."""
        for path in list(self._held):
            self.drop(path)
