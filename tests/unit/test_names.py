"""What of a listing is not read, and which of it is told."""

from __future__ import annotations

import pytest

from jobcache_refresher.scan.names import (
    LINK,
    MISPLACED,
    UNTOLD,
    ignored_names,
    passed_over,
    without_ignored,
)
from jobcache_refresher.scan.tree import Child, Directory


def listing(
    *subdirectories: bytes,
    others: frozenset[bytes] = frozenset(),
    links: frozenset[bytes] = frozenset(),
    unknown: frozenset[bytes] = frozenset(),
) -> Directory:
    children = {name: Child(1, None) for name in subdirectories}
    return Directory(0, 1, children, others=others, links=links, unknown=unknown)


@pytest.mark.parametrize(
    "name",
    [b"lost+found", b".Trash", b".Trash-1000", b".trash", b".snapshot", b".snapshots", b".zfs"]
    + [b"@eaDir", b"#recycle", b"@Recently-Snapshot", b".nfs0000000000a4c2b700000001"]
    + [b".fuse_hidden0000000100000002", b".AppleDouble", b"System Volume Information"]
    + [b"$RECYCLE.BIN"],
)
def test_ignored_names_of_systems(name: bytes) -> None:
    assert ignored_names()(name)


@pytest.mark.parametrize(
    "name",
    [b"vision", b".vision", b"lost+found2", b"lostfound", b"trash", b"Trash-1000", b"snapshot"]
    + [
        b".snapshots-of-vit",
        b".nf",
        b"x.nfs1",
        b"@team",
        b"#1",
        b"recycle",
        b"\xff",
        b"$RECYCLE_BIN",
    ],
)
def test_ignored_names_leave_jobs_alone(name: bytes) -> None:
    assert not ignored_names()(name)


@pytest.mark.parametrize(
    ("more", "name", "ignored"),
    [
        ("tmp-*", b"tmp-1", True),
        ("tmp-*", b"tmp", False),
        ("tmp-*", b"lost+found", True),  # beside those of systems
        (" a , b?,,", b"a", True),
        (" a , b?,,", b"b1", True),
        (" a , b?,,", b"b", False),
        (" a , b?,,", b"", False),
        ("[ab]x", b"bx", True),
        ("a.b", b"axb", False),
        ("café*", "café au lait".encode(), True),
        ("*", b"\xff\n", True),
    ],
)
def test_ignored_names_of_a_setting(more: str, name: bytes, ignored: bool) -> None:
    assert ignored_names(more)(name) is ignored


def test_without_ignored_matches_only_names_that_are_new() -> None:
    asked: list[bytes] = []

    def is_ignored(name: bytes) -> bool:
        asked.append(name)
        return name.startswith(b".")

    found = listing(b"old", b"new", b".x", unknown=frozenset({b".y", b"z"}))
    kept = without_ignored(found, lambda name: name == b"old", is_ignored)
    assert kept.subdirectories.keys() == {b"old", b"new"}
    assert kept.unknown == {b"z"}
    assert sorted(asked) == [b".x", b".y", b"new", b"z"]
    assert without_ignored(kept, lambda name: False, is_ignored) is kept


def test_passed_over_tells_what_may_be_taken_for_jobs() -> None:
    found = listing(
        b"p",
        others=frozenset({b"README", b"metadata.json", b"moved", b"latest", b".trash"}),
        links=frozenset({b"moved", b"latest", b".trash"}),
        unknown=frozenset({b"torn"}),
    )
    told = passed_over(found, ignored_names(), lambda name: name != b"latest")
    assert told == {b"metadata.json": MISPLACED, b"moved": LINK, b"torn": UNTOLD}


def test_passed_over_of_ordinary_files_is_nothing() -> None:
    assert (
        passed_over(listing(others=frozenset({b"README"})), lambda _: False, lambda _: True) == {}
    )
