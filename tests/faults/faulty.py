"""A status directory that fails on demand."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from jobcache_refresher.scan.tree import Directory, Fingerprint, Tree


class FaultyTree(Tree):
    """Raises an error for every path that a predicate matches; hangs while ``hang`` is set."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.error: int | None = None
        self.matches: Callable[[bytes], bool] = lambda path: False
        self.go_on = threading.Event()
        self.go_on.set()

    def fail(self, error: int, matches: Callable[[bytes], bool]) -> None:
        self.error, self.matches = error, matches

    def heal(self) -> None:
        self.error = None

    def _strike(self, path: bytes) -> None:
        self.go_on.wait()
        if self.error is not None and self.matches(path):
            raise OSError(self.error, os.strerror(self.error))

    def list_directory(self, path: bytes, *, with_mtimes: bool = False) -> Directory:
        self._strike(path)
        return super().list_directory(path, with_mtimes=with_mtimes)

    def fingerprint(self, path: bytes, name: bytes, held: int | None = None) -> Fingerprint:
        self._strike(path + b"/" + name)
        return super().fingerprint(path, name, held)

    def directory_descriptor(self, path: bytes) -> int:
        self._strike(path)
        return super().directory_descriptor(path)

    def file_descriptor(self, name: bytes, held: int) -> int:
        self._strike(name)
        return super().file_descriptor(name, held)

    def descriptor_fingerprint(self, held: int) -> Fingerprint:
        self._strike(b"held")
        return super().descriptor_fingerprint(held)

    def read_whole(
        self, path: bytes, name: bytes, cap: int, held: int | None = None
    ) -> tuple[Fingerprint, bytes]:
        self._strike(path + b"/" + name)
        return super().read_whole(path, name, cap, held)

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
        self._strike(path + b"/" + name)
        return super().read_part(path, name, offset, length, held, head=head)

    def exists(self, name: bytes) -> bool:
        self._strike(name)
        return super().exists(name)


def under(*names: str) -> Callable[[bytes], Any]:
    """Matches a path and everything below it."""
    top = "/".join(names).encode()
    return lambda path: path == top or path.startswith(top + b"/") or not top
