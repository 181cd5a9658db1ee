"""The status directory as a filesystem: the only module that lists, stats and opens in it.

Paths are bytes relative to the root, as the filesystem holds them. The root may be a symbolic link; below it none is
followed, also not one that took a directory's place. Only regular files are opened and none is waited for, and no more
of one is read than its cap. An error is the caller's to judge: nothing
here turns one into an absence.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Fingerprint(NamedTuple):
    """What tells two states of a file apart. Equal or not equal, never older or newer.

    Every poll makes one for each run that it looks at, so they are made as plain tuples are, in half the time.
    """

    mtime_ns: int
    ctime_ns: int
    size: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        """The fingerprint in a stat result."""
        return tuple.__new__(
            cls, (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
        )

    @classmethod
    def parse(cls, text: bytes) -> Fingerprint | None:
        """The fingerprint that ``encode`` wrote, or None. Fields after its own are passed over."""
        try:
            mtime_ns, ctime_ns, size, inode = map(int, text.split(b":")[:4])
        except ValueError:
            return None
        return tuple.__new__(cls, (mtime_ns, ctime_ns, size, inode))

    def encode(self) -> bytes:
        """The fingerprint as text."""
        return b"%d:%d:%d:%d" % self

    def matches(self, other: Fingerprint | None, *, inodes: bool) -> bool:
        """Whether both show one state of one file; ``inodes`` is False where inode numbers prove nothing."""
        return self == other or (not inodes and other is not None and self[:3] == other[:3])


class Child(NamedTuple):
    """A subdirectory as its parent's listing shows it.

    Of two listings, equal ones show one state of one directory, where the filesystem's numbers and times prove that.
    """

    inode: int
    times: tuple[int, int] | None
    """Its mtime and ctime in nanoseconds; None unless they were asked for, or when they could not be had."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory, listed whole unless it says otherwise. Its own times are those from before it was listed."""

    mtime_ns: int
    device: int
    subdirectories: dict[bytes, Child]
    others: frozenset[bytes] = field(default_factory=frozenset)
    """Names of everything else: files, links, sockets."""
    unknown: frozenset[bytes] = field(default_factory=frozenset)
    """Names that could not be looked at: of a kind that nobody can tell, but no absence."""
    ctime_ns: int = 0
    cut: str | None = None
    """The error that ended it early, so that a name it lacks may be there all the same; None if it is whole."""
    links: frozenset[bytes] = field(default_factory=frozenset)
    """Those of the others that are symbolic links."""


_ENCODING = sys.getfilesystemencoding()
_HOLD = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_NOFOLLOW | os.O_CLOEXEC


class NotRegularError(OSError):
    """What bears the name is no regular file."""


class LinkError(NotRegularError):
    """What bears the name is a symbolic link."""


class TooLargeError(OSError):
    """The file is larger than its cap."""


class TornReadError(OSError):
    """The file changed while it was read."""


class ElsewhereError(OSError):
    """A link took a directory's place: what was opened lies elsewhere."""


class CutListingError(OSError):
    """The listing failed after it had named some entries."""

    def __init__(self, error: OSError, part: Directory) -> None:
        super().__init__(error.errno, error.strerror or str(error))
        self.part = part
        """What it named until then."""


class Tree:
    """A status directory.

    Every method raises ``OSError`` as the filesystem gives it. A file is named by its directory's path, its own name
    and, where there is one, a descriptor that ``directory_descriptor`` gave for it: looking a name up in a held
    directory costs a network filesystem one operation, by path one for each name of it.
    """

    def __init__(self, root: str) -> None:
        self.root = os.fsencode(os.path.abspath(root))
        self.place = self.root
        """Where the root lies, with every link resolved as of when it was last listed. Paths lead from there."""

    def list_directory(self, path: bytes, *, with_mtimes: bool = False) -> Directory:
        """List a directory whole, with its subdirectories' times if asked for.

        A network filesystem sends the attributes along with the names, so that the times cost nothing more there.

        Raises:
            CutListingError: it failed half way.
        """
        handle = self._open_directory(path) if path else self._open_root()
        try:
            status = os.fstat(handle)
            listing = _list(handle, status, with_times=with_mtimes)
        finally:
            os.close(handle)
        return listing

    def link_target(self, path: bytes, name: bytes) -> bytes:
        """What a symbolic link holds; nobody looks where it leads."""
        return os.readlink(self._full(path) + b"/" + name)

    def exists(self, name: bytes) -> bool:
        """Whether something of this name lies in the root."""
        try:
            os.lstat(self._full(name))
        except FileNotFoundError:
            return False
        return True

    def directory_descriptor(self, path: bytes) -> int:
        """A descriptor of a directory to look names up in; the caller closes it with ``release``."""
        full = self._full(path)
        return _only_at(full, os.open(full, _HOLD | os.O_DIRECTORY))

    def file_descriptor(self, name: bytes, held: int) -> int:
        """A descriptor of a file, to be asked for its fingerprint; the caller closes it with ``release``."""
        return os.open(name, _HOLD, dir_fd=held)

    def descriptor_fingerprint(self, held: int) -> Fingerprint:
        """The fingerprint of a held file."""
        return Fingerprint.of(os.fstat(held))

    def release(self, held: int) -> None:
        """Close a descriptor."""
        os.close(held)

    def fingerprint(self, path: bytes, name: bytes, held: int | None = None) -> Fingerprint:
        """The fingerprint of a file, unopened."""
        if held is None:
            return Fingerprint.of(os.lstat(self._full(path) + b"/" + name))
        return Fingerprint.of(os.lstat(name, dir_fd=held))

    def read_whole(
        self, path: bytes, name: bytes, cap: int, held: int | None = None
    ) -> tuple[Fingerprint, bytes]:
        """Read a regular file of at most ``cap`` bytes that nobody changes meanwhile."""
        handle = self._open(path, name, held)
        try:
            before = Fingerprint.of(_regular(os.fstat(handle)))
            if before.size > cap:
                raise TooLargeError(f"{before.size} bytes, more than {cap}")
            data = _read(handle, before.size)
            after = Fingerprint.of(os.fstat(handle))
            # It is one file in any case. Some filesystems give it a new number each time.
            if len(data) != before.size or not after.matches(before, inodes=False):
                raise TornReadError("changed while it was read")
        finally:
            os.close(handle)
        return before, data

    def read_part(
        self,
        path: bytes,
        name: bytes,
        offset: int,
        length: int,
        held: int | None = None,
        *,
        head: int = 0,
    ) -> tuple[Fingerprint, bytes, bytes]:
        """The fingerprint of a regular file, its first ``head`` bytes, and up to ``length`` bytes from ``offset``."""
        handle = self._open(path, name, held)
        try:
            fingerprint = Fingerprint.of(_regular(os.fstat(handle)))
            beginning = os.pread(handle, head, 0) if head > 0 else b""
            if length <= 0 or offset >= fingerprint.size:
                return fingerprint, beginning, b""
            return fingerprint, beginning, os.pread(handle, length, offset)
        finally:
            os.close(handle)

    def _open(self, path: bytes, name: bytes, held: int | None) -> int:
        where, directory = (self._full(path) + b"/" + name, None) if held is None else (name, held)
        # Looked at before it is opened: opening a device may act on it, and O_NONBLOCK keeps a FIFO that takes its
        # place in between from waiting for a writer.
        _regular(os.lstat(where, dir_fd=directory))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        handle = os.open(where, flags, dir_fd=directory)
        return _only_at(self._full(path) + b"/" + name, handle)

    def _open_root(self) -> int:
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.place = _path_of(handle, self.root)
        return handle

    def _open_directory(self, path: bytes) -> int:
        full = self._full(path)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return _only_at(full, os.open(full, flags))

    def _full(self, path: bytes) -> bytes:
        return self.place + b"/" + path if path else self.place


def is_directory(entry: os.DirEntry[Any]) -> bool:
    """Whether an entry of a listing is a directory, and no link to one.

    Where the filesystem does not say so in the listing, it is asked.

    Raises:
        OSError: it does not tell. ``DirEntry`` takes a name that cannot be found for no directory.
    """
    if entry.is_dir(follow_symlinks=False):
        return True
    if entry.is_file(follow_symlinks=False) or entry.is_symlink():
        return False
    return stat.S_ISDIR(entry.stat(follow_symlinks=False).st_mode)


def _only_at(full: bytes, handle: int) -> int:
    """The handle, if what was opened lies where its path says; else it is closed.

    Looking at the path before it is opened would not do: a link may come in between. The kernel tells where an open
    file lies without asking the filesystem.
    """
    found = _path_of(handle, full)
    if found == full:
        return handle
    os.close(handle)
    if found == full + b" (deleted)":
        raise TornReadError("replaced while it was opened")
    raise ElsewhereError("a link took a directory's place")


def _path_of(handle: int, full: bytes) -> bytes:
    """Where an open file lies now."""
    try:
        return os.readlink(b"/proc/self/fd/%d" % handle)
    except OSError:  # no /proc here
        return os.path.realpath(full)


def _regular(status: os.stat_result) -> os.stat_result:
    if stat.S_ISLNK(status.st_mode):
        raise LinkError("a symbolic link, which is not followed")
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularError("not a regular file")
    return status


def _list(handle: int, status: os.stat_result, *, with_times: bool) -> Directory:
    subdirectories: dict[bytes, Child] = {}
    others: set[bytes] = set()
    links: set[bytes] = set()
    unknown: set[bytes] = set()
    failure: OSError | None = None
    try:
        with os.scandir(handle) as entries:
            for entry in entries:
                name = entry.name.encode(_ENCODING, "surrogateescape")
                try:
                    below = is_directory(entry)
                except OSError:
                    unknown.add(name)
                    continue
                if below:
                    subdirectories[name] = _child(entry, with_times=with_times)
                else:
                    others.add(name)
                    if entry.is_symlink():
                        links.add(name)
    except OSError as error:
        failure = error
    listing = Directory(
        status.st_mtime_ns,
        status.st_dev,
        subdirectories,
        frozenset(others),
        frozenset(unknown),
        links=frozenset(links),
        ctime_ns=status.st_ctime_ns,
        cut=None if failure is None else failure.strerror or str(failure),
    )
    if failure is not None:
        raise CutListingError(failure, listing) from failure
    return listing


def _child(entry: os.DirEntry[str], *, with_times: bool) -> Child:
    if not with_times:
        return Child(entry.inode(), None)
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return Child(entry.inode(), None)
    mtime_ns, ctime_ns = status.st_mtime_ns, status.st_ctime_ns
    # Mostly they are equal, and then one number is kept.
    return Child(status.st_ino, (mtime_ns, mtime_ns if mtime_ns == ctime_ns else ctime_ns))


def _read(handle: int, size: int) -> bytes:
    """What a file of some size holds; a byte more if it has grown, less if it has shrunk."""
    data = os.read(handle, size + 1)
    while len(data) < size and (more := os.read(handle, size + 1 - len(data))):
        data += more
    return data
