"""What a tree tells of a real directory, also where the filesystem fails half way or numbers files anew each time."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from jobcache_refresher.scan.tree import CutListingError, Tree

CAP = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_bytes(b"whole")
    return tmp_path


class Failing:
    """A listing that fails after some names."""

    def __init__(self, entries: list[os.DirEntry[Any]], error: int) -> None:
        self._entries = entries
        self._error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        pass

    def __iter__(self) -> Iterator[os.DirEntry[Any]]:
        yield from self._entries
        raise OSError(self._error, os.strerror(self._error))


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.ENOENT], ids=errno.errorcode.get)
@pytest.mark.parametrize("count", [0, 2, 4])
def test_list_directory_that_fails_half_way_tells_what_it_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: int, count: int
) -> None:
    real = os.scandir

    def scandir(path: Any) -> Failing:
        with real(path) as entries:
            return Failing(sorted(entries, key=lambda entry: entry.name)[:count], error)

    monkeypatch.setattr("jobcache_refresher.scan.tree.os.scandir", scandir)
    with pytest.raises(CutListingError) as caught:
        Tree(str(root)).list_directory(b"", with_mtimes=True)
    assert caught.value.errno == error
    part = caught.value.part
    assert part.cut == os.strerror(error)
    assert {*part.subdirectories, *part.others} == set([b"a", b"b", b"c", b"file"][:count])


def test_list_directory_shows_what_stat_says_of_subdirectories(root: Path) -> None:
    os.utime(root / "a", (1, 1))
    listing = Tree(str(root)).list_directory(b"", with_mtimes=True)
    for name in ("a", "b", "c"):
        status = (root / name).stat()
        child = listing.subdirectories[name.encode()]
        assert child == (status.st_ino, (status.st_mtime_ns, status.st_ctime_ns))
    status = root.stat()
    assert (listing.mtime_ns, listing.ctime_ns) == (status.st_mtime_ns, status.st_ctime_ns)
    assert listing.cut is None


def test_list_directory_without_times_asks_for_none(root: Path) -> None:
    listing = Tree(str(root)).list_directory(b"")
    assert {child.times for child in listing.subdirectories.values()} == {None}


def test_read_whole_of_a_file_that_bears_a_new_number_each_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, numbers = os.fstat, itertools.count(10**6)

    def fstat(handle: int) -> Any:
        status = real(handle)
        names = ("st_mode", "st_mtime_ns", "st_ctime_ns", "st_size", "st_dev")
        known = {name: getattr(status, name) for name in names}
        return SimpleNamespace(st_ino=next(numbers), **known)

    monkeypatch.setattr("jobcache_refresher.scan.tree.os.fstat", fstat)
    _, data = Tree(str(root.parent)).read_whole(root.name.encode(), b"file", CAP)
    assert data == b"whole"
