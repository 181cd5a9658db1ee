"""Whether the status directory can be believed.

A dead mount, a mount that was lazily taken away and an empty directory in its place look like a tree without jobs. Of a
root that cannot be believed nothing counts: no deletion, and no news.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from pathlib import PurePath

from jobcache_refresher.scan.tree import Directory, Tree
from jobcache_refresher.scan.volumes import Sight, Volume


class RootFaultError(Exception):
    """The status directory cannot be believed."""


class RootCheck:
    """Remembers what the root was when it was last believed.

    Args:
        tree: the status directory.
        filesystem_type: tells the filesystem type of an absolute path now, or None where that cannot be told.
        is_ignored: tells which names are passed over.
        marker: name of a file that must lie in the root; empty for none.
        may_come_later: whether the root counts as empty until it is there for the first time.
    """

    def __init__(
        self,
        tree: Tree,
        filesystem_type: Callable[[bytes], str | None],
        is_ignored: Callable[[bytes], bool],
        marker: str = "",
        *,
        may_come_later: bool = False,
    ) -> None:
        self._tree = tree
        self._filesystem_type = filesystem_type
        self._is_ignored = is_ignored
        self._marker = marker.encode("utf-8", "surrogateescape")
        self._volume: Volume | None = None
        self._place: bytes | None = None
        self._is_awaited = may_come_later
        self.absence = ""
        """Says that the root was never there, in a line for people; empty if it was, or must be."""
        self._shown = repr(str(PurePath(tree.root.decode("utf-8", "backslashreplace"))))

    def look(self, known: Set[bytes]) -> Directory:
        """List the root, and believe it or not.

        Args:
            known: names that were in it.

        A root that may come later, and was never there, is empty; ``absence`` tells of it.

        Raises:
            RootFaultError: it cannot be read, turned empty, lacks its marker, or is another than before.
        """
        try:
            listing = self._tree.list_directory(b"", with_mtimes=True)
            marked = not self._marker or self._tree.exists(self._marker)
        except OSError as error:
            if self._is_awaited and not known and isinstance(error, FileNotFoundError):
                self.absence = f"status_dir={self._shown} does not exist yet"
                return Directory(0, 0, {})
            raise RootFaultError(f"status_dir={self._shown}: {error.strerror or error}") from None
        self._is_awaited, self.absence = False, ""
        if not marked:
            raise RootFaultError(f"status_dir={self._shown} lacks its marker {self._marker!r}")
        names = {
            name
            for name in listing.subdirectories.keys() | listing.unknown
            if not self._is_ignored(name)
        }
        before = self._volume
        if before is None or before.device != listing.device or known.isdisjoint(names):
            self._judge(listing.device, names, known)
        self._place = self._tree.place
        return listing

    def _judge(self, device: int, names: Set[bytes], known: Set[bytes]) -> None:
        seen = Sight(device, self._filesystem_type(self._tree.place), names)
        before = self._volume or Volume(device)
        if reason := before.doubt(seen, known):
            raise RootFaultError(f"status_dir={self._shown} {reason}")
        self._volume = Volume(device, seen.fs_type)

    @property
    def place(self) -> bytes | None:
        """Where the root lay when it was last believed, with its links resolved; None before it was."""
        return self._place

    @property
    def device(self) -> int | None:
        """The device of the root when it was last believed."""
        return self._volume.device if self._volume else None

    @property
    def filesystem_type(self) -> str | None:
        """The filesystem type of the root when it was last believed; None if that cannot be told."""
        return self._volume.fs_type if self._volume else None
