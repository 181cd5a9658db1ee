"""Whether the status directory can be believed.

A dead mount, a mount that was lazily taken away and an empty directory in its place look like a tree without jobs. Of a
root that cannot be believed nothing counts: no deletion, and no news.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from pathlib import PurePath

from jobcache_refresher.scan.tree import Directory, Tree

NOT_PROJECTS = frozenset({b".trash"})
"""Names in the root that the filesystem itself makes: JuiceFS shows its trash in the root of a mount."""


class RootFaultError(Exception):
    """The status directory cannot be believed."""


class RootCheck:
    """Remembers what the root was when it was last believed.

    Args:
        tree: the status directory.
        filesystem_type: tells the root's filesystem type now, or None where that cannot be told.
        marker: name of a file that must lie in the root; empty for none.
    """

    def __init__(
        self, tree: Tree, filesystem_type: Callable[[], str | None], marker: str = ""
    ) -> None:
        self._tree = tree
        self._filesystem_type = filesystem_type
        self._marker = marker.encode("utf-8", "surrogateescape")
        self._device: int | None = None
        self._place: bytes | None = None
        self._type: str | None = None
        self._shown = repr(str(PurePath(tree.root.decode("utf-8", "backslashreplace"))))

    def look(self, known: Set[bytes]) -> Directory:
        """List the root, and believe it or not.

        Args:
            known: names that were in it.

        Raises:
            RootFaultError: it cannot be read, turned empty, lacks its marker, or is another than before.
        """
        try:
            listing = self._tree.list_directory(b"", with_mtimes=True)
            marked = not self._marker or self._tree.exists(self._marker)
        except OSError as error:
            raise RootFaultError(f"status_dir={self._shown}: {error.strerror or error}") from None
        if not marked:
            raise RootFaultError(f"status_dir={self._shown} lacks its marker {self._marker!r}")
        names = (listing.subdirectories.keys() | listing.unknown) - NOT_PROJECTS
        if known and not names:
            raise RootFaultError(f"status_dir={self._shown} turned empty")
        # Device numbers are used again: where nothing of what was known is left, the type is looked at as well.
        if listing.device != self._device or not known & names:
            self._judge_device(listing, known)
        self._place = self._tree.place
        return listing

    def _judge_device(self, listing: Directory, known: Set[bytes]) -> None:
        kind = self._filesystem_type()
        if self._device is not None and known:
            if kind != self._type:
                raise RootFaultError(
                    f"status_dir={self._shown} is a filesystem of type {kind}, not {self._type}: "
                    "restart the refresher if that is meant"
                )
            # A new mount of the same volume has another device number, and the same names.
            moved = listing.device != self._device
            if moved and not known & listing.subdirectories.keys():
                raise RootFaultError(f"status_dir={self._shown} shows another filesystem")
        self._device, self._type = listing.device, kind

    @property
    def place(self) -> bytes | None:
        """Where the root lay when it was last believed, with its links resolved; None before it was."""
        return self._place

    @property
    def device(self) -> int | None:
        """The device of the root when it was last believed."""
        return self._device

    @property
    def filesystem_type(self) -> str | None:
        """The filesystem type of the root when it was last believed; None if that cannot be told."""
        return self._type
