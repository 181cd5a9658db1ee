"""The status directory as a filesystem: the only module that lists, stats and opens in it.

Paths are bytes relative to the root, as the filesystem holds them. No symbolic link is followed, only regular files
are opened and none is waited for, and no more of one is read than its cap. An error is the caller's to judge: nothing
here turns one into an absence.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import NamedTuple


class Fingerprint(NamedTuple):
    """What tells two states of a file apart. Equal or not equal, never older or newer."""

    mtime_ns: int
    ctime_ns: int
    size: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        """The fingerprint in a stat result."""
        return cls(status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)

    @classmethod
    def parse(cls, text: bytes) -> Fingerprint | None:
        """The fingerprint that ``encode`` wrote, or None."""
        try:
            mtime_ns, ctime_ns, size, inode = map(int, text.split(b":"))
        except ValueError:
            return None
        return cls(mtime_ns, ctime_ns, size, inode)

    def encode(self) -> bytes:
        """The fingerprint as text."""
        return b"%d:%d:%d:%d" % self


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory, listed whole. The times are those from before it was listed."""

    mtime_ns: int
    device: int
    subdirectories: frozenset[bytes]
    others: frozenset[bytes]


class NotRegularError(OSError):
    """What bears the name is no regular file."""


class TooLargeError(OSError):
    """The file is larger than its cap."""


class TornReadError(OSError):
    """The file changed while it was read."""


class Tree:
    """A status directory.

    Every method raises ``OSError`` as the filesystem gives it.
    """

    def __init__(self, root: str) -> None:
        self.root = os.fsencode(os.path.abspath(root))

    def list_directory(self, path: bytes) -> Directory:
        """List a directory whole."""
        handle = os.open(
            self._full(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        )
        try:
            status = os.fstat(handle)
            subdirectories: set[bytes] = set()
            others: set[bytes] = set()
            with os.scandir(handle) as entries:
                for entry in entries:
                    kind = subdirectories if entry.is_dir(follow_symlinks=False) else others
                    kind.add(os.fsencode(entry.name))
        finally:
            os.close(handle)
        return Directory(
            status.st_mtime_ns, status.st_dev, frozenset(subdirectories), frozenset(others)
        )

    def directory_mtime_ns(self, path: bytes) -> int:
        """When a directory last changed, in nanoseconds since the epoch."""
        return os.lstat(self._full(path)).st_mtime_ns

    def fingerprint(self, path: bytes) -> Fingerprint:
        """The fingerprint of a file, unopened."""
        return Fingerprint.of(os.lstat(self._full(path)))

    def read_whole(self, path: bytes, cap: int) -> tuple[Fingerprint, bytes]:
        """Read a regular file of at most ``cap`` bytes that nobody changes meanwhile."""
        handle = self._open(path)
        try:
            before = self._regular(handle, path)
            if before.size > cap:
                raise TooLargeError(f"{before.size} bytes, more than {cap}")
            data = _read(handle, before.size + 1)
            if len(data) != before.size or Fingerprint.of(os.fstat(handle)) != before:
                raise TornReadError("changed while it was read")
        finally:
            os.close(handle)
        return before, data

    def read_part(self, path: bytes, offset: int, length: int) -> tuple[int, bytes]:
        """The size of a regular file, and up to ``length`` bytes of it from ``offset``."""
        handle = self._open(path)
        try:
            size = self._regular(handle, path).size
            if length <= 0 or offset >= size:
                return size, b""
            return size, os.pread(handle, length, offset)
        finally:
            os.close(handle)

    def _open(self, path: bytes) -> int:
        # O_NONBLOCK: opening a FIFO must not wait for its writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        full = self._full(path)
        if not stat.S_ISREG(os.lstat(full).st_mode):
            raise NotRegularError("not a regular file")
        return os.open(full, flags)

    def _regular(self, handle: int, path: bytes) -> Fingerprint:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise NotRegularError("not a regular file")
        return Fingerprint.of(status)

    def _full(self, path: bytes) -> bytes:
        return self.root + b"/" + path if path else self.root


def _read(handle: int, length: int) -> bytes:
    chunks = []
    while length > 0 and (chunk := os.read(handle, length)):
        chunks.append(chunk)
        length -= len(chunk)
    return b"".join(chunks)
