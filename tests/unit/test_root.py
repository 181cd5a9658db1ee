"""Whether the status directory is believed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobcache_refresher.scan.names import ignored_names
from jobcache_refresher.scan.root import RootCheck, RootFaultError
from jobcache_refresher.scan.tree import Child, Directory, Tree


class Mounts(Tree):
    """A root that shows whatever is mounted."""

    def __init__(self) -> None:
        super().__init__("/status")
        self.mount(1, "ext4", b"p", b"q")

    def mount(self, device: int, fs_type: str | None, *names: bytes) -> None:
        self.device, self.fs_type, self.names = device, fs_type, names

    def list_directory(self, path: bytes, *, with_mtimes: bool = False) -> Directory:
        return Directory(0, self.device, {name: Child(1, None) for name in self.names})


@pytest.mark.parametrize(
    ("device", "fs_type", "names", "fault"),
    [
        (1, "ext4", [b"p", b"q"], None),
        (1, "ext4", [b"p"], None),
        (1, "ext4", [b"new"], None),  # projects come and go
        (2, "ext4", [b"p"], None),  # mounted anew
        (1, "ext4", [], "turned empty"),
        (1, "ext4", [b"lost+found", b".Trash-1000"], "turned empty"),
        (2, "ext4", [b"x"], "shows another filesystem"),
        (2, "tmpfs", [b"p"], "is a filesystem of type tmpfs, not ext4"),
        (1, "tmpfs", [b"x"], "is a filesystem of type tmpfs, not ext4"),
        (2, None, [b"p"], None),
    ],
)
def test_look_at_a_root_after_another(
    device: int, fs_type: str | None, names: list[bytes], fault: str | None
) -> None:
    mounts = Mounts()
    check = RootCheck(mounts, lambda place: mounts.fs_type, ignored_names())
    check.look(set())
    mounts.mount(device, fs_type, *names)
    if fault is None:
        check.look({b"p", b"q"})
        assert check.device == device
    else:
        for _ in range(2):
            with pytest.raises(RootFaultError, match=fault):
                check.look({b"p", b"q"})
        assert check.device == 1


def test_look_at_a_root_without_its_marker_does_not_believe_it(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    check = RootCheck(Tree(str(tmp_path)), lambda place: None, ignored_names(), "marker")
    with pytest.raises(RootFaultError, match="lacks its marker"):
        check.look(set())
    (tmp_path / "marker").touch()
    assert check.look(set()).subdirectories.keys() == {b"p"}


def test_look_at_a_root_that_is_not_there_does_not_believe_it(tmp_path: Path) -> None:
    check = RootCheck(Tree(str(tmp_path / "none")), lambda place: None, ignored_names())
    with pytest.raises(RootFaultError, match="No such file"):
        check.look(set())
    assert check.place is None


def test_look_at_a_root_that_may_come_later_finds_it_empty_until_it_is_there(
    tmp_path: Path,
) -> None:
    root = tmp_path / "a" / "root"
    check = RootCheck(
        Tree(str(root)), lambda place: None, ignored_names(), "marker", may_come_later=True
    )
    assert check.look(set()).subdirectories == {}
    assert "does not exist yet" in check.absence
    with pytest.raises(RootFaultError, match="No such file"):
        check.look({b"p"})
    (root / "p").mkdir(parents=True)
    with pytest.raises(RootFaultError, match="lacks its marker"):
        check.look(set())
    (root / "marker").touch()
    assert check.look(set()).subdirectories.keys() == {b"p"}
    assert check.absence == ""
    shutil.rmtree(root)
    with pytest.raises(RootFaultError, match="No such file"):
        check.look(set())


def test_look_at_a_root_that_may_come_later_and_cannot_be_read_does_not_believe_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "root").touch()
    tree = Tree(str(tmp_path / "root"))
    check = RootCheck(tree, lambda place: None, ignored_names(), may_come_later=True)
    with pytest.raises(RootFaultError, match="Not a directory"):
        check.look(set())
