"""The only module that looks at the filesystem: what a listing tells, and what is never followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobcache_refresher.scan.tree import (
    ElsewhereError,
    Fingerprint,
    NotRegularError,
    TooLargeError,
    Tree,
)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "p" / "g").mkdir(parents=True)
    (tmp_path / "p" / "file").write_text("text")
    tree = Tree(str(tmp_path))
    tree.list_directory(b"")
    return tree


def test_listing_tells_directories_from_links_and_other_names(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "p" / "to a directory").symlink_to("g")
    (tmp_path / "p" / "to a file").symlink_to("file")
    (tmp_path / "p" / "to nowhere").symlink_to("nowhere")
    os.mkfifo(tmp_path / "p" / "fifo")
    listing = tree.list_directory(b"p", with_mtimes=True)
    links = {b"to a directory", b"to a file", b"to nowhere"}
    status = (tmp_path / "p" / "g").stat()
    assert {name: child.inode for name, child in listing.subdirectories.items()} == {
        b"g": status.st_ino
    }
    assert listing.links == links
    assert listing.others == links | {b"file", b"fifo"}
    assert listing.unknown == frozenset()
    assert listing.device == status.st_dev


def test_link_target_is_what_the_link_holds(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "p" / "link").symlink_to("../elsewhere/x")
    assert tree.link_target(b"p", b"link") == b"../elsewhere/x"
    with pytest.raises(OSError, match="Invalid argument"):
        tree.link_target(b"p", b"file")


@pytest.mark.parametrize("depth", ["itself", "above it"])
def test_listing_through_a_link_is_refused(tree: Tree, tmp_path: Path, depth: str) -> None:
    (tmp_path / "link").symlink_to("p")
    path, error = (
        (b"link", NotADirectoryError) if depth == "itself" else (b"link/g", ElsewhereError)
    )
    with pytest.raises(error):
        tree.list_directory(path)


def test_place_of_a_root_that_is_a_link_is_looked_up_at_each_listing(tmp_path: Path) -> None:
    for name in ("blue", "green"):
        (tmp_path / name / name).mkdir(parents=True)
    link = tmp_path / "link"
    tree = Tree(str(link))
    for name in ("blue", "green"):
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        assert tree.list_directory(b"").subdirectories.keys() == {name.encode()}
        assert tree.place == os.fsencode(tmp_path / name)
        assert tree.list_directory(name.encode()).subdirectories == {}


def test_read_whole_keeps_to_its_cap_and_to_regular_files(tree: Tree, tmp_path: Path) -> None:
    fingerprint, data = tree.read_whole(b"p", b"file", 4)
    assert data == b"text"
    assert fingerprint == Fingerprint.of((tmp_path / "p" / "file").stat())
    with pytest.raises(TooLargeError):
        tree.read_whole(b"p", b"file", 3)
    os.mkfifo(tmp_path / "p" / "fifo")
    with pytest.raises(NotRegularError):
        tree.read_whole(b"p", b"fifo", 4)
    with pytest.raises(FileNotFoundError):
        tree.read_whole(b"p", b"none", 4)


def test_fingerprint_survives_the_way_through_redis() -> None:
    fingerprint = Fingerprint(1, 2, 3, 4)
    assert Fingerprint.parse(fingerprint.encode()) == fingerprint
    assert Fingerprint.parse(b"1:2:3") is None
    assert Fingerprint.parse(b"") is None
