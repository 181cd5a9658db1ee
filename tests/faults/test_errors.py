"""An error on any path deletes nothing, stops nothing else, and is over when it is over."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobcache import CacheState
from jobcache_refresher.scan.scope import Scope
from tests.contract.compare import assert_agrees, names_of
from tests.faults.faulty import FaultyTree, under
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import Names, delete_run, write_raw, write_run

VICTIM: Names = ("p", "g", "n", "r1")
RUNS: list[Names] = [
    VICTIM,
    ("p", "g", "n", "r2"),
    ("p", "g", "m", "r1"),
    ("p", "h", "n", "r1"),
    ("q", "g", "n", "r1"),
]
ERRORS = [errno.EIO, errno.ESTALE, errno.EACCES, errno.ENOTCONN, errno.ETIMEDOUT, errno.ELOOP]
PLACES: list[tuple[str, ...]] = [
    (),
    *(VICTIM[:depth] for depth in (1, 2, 3, 4)),
    (*VICTIM, "metadata.json"),
]


@pytest.fixture
def tree(status_dir: Path) -> FaultyTree:
    return FaultyTree(str(status_dir))


@pytest.fixture
def faulty(
    valkey: RunningServer, status_dir: Path, namespace: str, tree: FaultyTree
) -> Iterator[Rig]:
    for names in RUNS:
        write_run(status_dir, names)
    with Rig(valkey.url, status_dir, namespace, tree=tree) as rig:
        rig.settle()
        yield rig


@pytest.mark.parametrize("place", PLACES, ids=lambda place: "/".join(place) or "root")
@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
def test_an_error_is_no_absence(
    faulty: Rig, tree: FaultyTree, error: int, place: tuple[str, ...]
) -> None:
    tree.fail(error, under(*place))
    for scope in (Scope.POLL, Scope.RELIST, Scope.POLL, Scope.RELIST):
        faulty.refresh(scope)
    assert sorted(names_of(faulty.cache.list_all_jobs())) == sorted(RUNS)
    if not place:
        freshness = faulty.cache.freshness()
        assert freshness.state is CacheState.DEGRADED
        assert freshness.reason is not None
        assert str(faulty.status_dir) in freshness.reason
    else:
        assert int(faulty.cache.meta()["errors"]) >= 1
        assert faulty.cache.freshness().state is CacheState.READY
    tree.heal()
    write_run(faulty.status_dir, VICTIM, status="failed")
    delete_run(faulty.status_dir, RUNS[1])
    faulty.settle()
    assert_agrees(faulty)
    assert faulty.cache.meta()["errors"] == "0"


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOTCONN], ids=errno.errorcode.get)
def test_open_descriptors_are_not_believed_over_the_path(
    faulty: Rig, tree: FaultyTree, error: int
) -> None:
    tree.fail(error, lambda path: path == b"held")
    write_run(faulty.status_dir, VICTIM, status="completed")
    faulty.refresh(Scope.POLL)
    assert_agrees(faulty)


def test_run_is_deleted_only_when_missing_twice(faulty: Rig) -> None:
    delete_run(faulty.status_dir, VICTIM)
    faulty.refresh(Scope.POLL)
    assert faulty.cache.get_job(*VICTIM) is not None
    faulty.refresh(Scope.POLL)
    assert faulty.cache.get_job(*VICTIM) is None


def test_run_that_comes_back_in_between_was_never_gone(faulty: Rig) -> None:
    hidden = faulty.status_dir.parent / "hidden"
    (faulty.status_dir / "p").rename(hidden)
    faulty.refresh(Scope.POLL)
    hidden.rename(faulty.status_dir / "p")
    faulty.refresh(Scope.POLL)
    faulty.refresh(Scope.POLL)
    assert sorted(names_of(faulty.cache.list_all_jobs())) == sorted(RUNS)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_removed_branch_goes_and_can_come_again(faulty: Rig, depth: int) -> None:
    branch = faulty.status_dir.joinpath(*VICTIM[:depth])
    shutil.rmtree(branch)
    for _ in range(3):
        faulty.refresh(Scope.POLL)
    assert_agrees(faulty)
    write_run(faulty.status_dir, VICTIM, status="failed")
    for _ in range(2):
        faulty.refresh(Scope.POLL)
    assert_agrees(faulty)
    known = faulty.refresher.scanner.snapshot
    assert set(known.runs) == {
        "/".join(names).encode() for names in names_of(faulty.cache.list_all_jobs())
    }


def test_file_removed_from_its_directory_deletes_the_job(faulty: Rig) -> None:
    file = faulty.status_dir.joinpath(*VICTIM, "metadata.json")
    file.unlink()
    faulty.refresh(Scope.POLL)
    assert faulty.cache.get_job(*VICTIM) is not None
    faulty.refresh(Scope.POLL)
    assert faulty.cache.get_job(*VICTIM) is None
    write_run(faulty.status_dir, VICTIM)
    faulty.refresh(Scope.POLL)
    assert_agrees(faulty)


class TestRoot:
    @pytest.mark.parametrize("how", ["empty", "absent", "file"])
    def test_root_that_vanished_deletes_nothing(self, faulty: Rig, how: str) -> None:
        away = faulty.status_dir.parent / "away"
        faulty.status_dir.rename(away)
        if how == "empty":
            faulty.status_dir.mkdir()
        elif how == "file":
            faulty.status_dir.write_text("")
        for _ in range(4):
            assert faulty.refresh() is False
        assert len(faulty.cache.list_all_jobs()) == len(RUNS)
        assert faulty.cache.freshness().state is CacheState.DEGRADED
        if how == "empty":
            faulty.status_dir.rmdir()
        elif how == "file":
            faulty.status_dir.unlink()
        away.rename(faulty.status_dir)
        assert faulty.refresh() is True
        assert faulty.cache.freshness().state is CacheState.READY
        assert_agrees(faulty)

    def test_root_that_vanished_right_after_a_restart_deletes_nothing(self, faulty: Rig) -> None:
        faulty.__exit__()
        away = faulty.status_dir.parent / "away"
        faulty.status_dir.rename(away)
        faulty.status_dir.mkdir()
        with Rig(faulty.url, faulty.status_dir, faulty.namespace) as again:
            for _ in range(3):
                assert again.refresh() is False
            assert len(again.cache.list_all_jobs()) == len(RUNS)
            faulty.status_dir.rmdir()
            away.rename(faulty.status_dir)
            again.settle()
            assert_agrees(again)

    def test_root_without_its_marker_deletes_nothing(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, VICTIM)
        (status_dir / ".jobcache").write_text("")
        with Rig(valkey.url, status_dir, namespace, marker=".jobcache") as rig:
            rig.refresh()
            (status_dir / ".jobcache").unlink()
            shutil.rmtree(status_dir / "p")
            write_run(status_dir, RUNS[-1])
            assert rig.refresh() is False
            assert rig.refresh() is False
            assert names_of(rig.cache.list_all_jobs()) == [VICTIM]
            assert "marker" in (rig.cache.freshness().reason or "")


class TestMassDeletion:
    def test_mass_deletion_is_held_until_an_operator_releases_it(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        def name(number: int) -> Names:
            return ("p", "g", f"n{number % 7}", f"r{number}")

        for number in range(100):
            write_run(status_dir, name(number))
        with Rig(valkey.url, status_dir, namespace, hold_minimum=10, hold_fraction=0.2) as rig:
            rig.refresh()
            for number in range(10):
                delete_run(status_dir, name(number))
            rig.settle()
            assert_agrees(rig)
            for number in range(10, 40):
                delete_run(status_dir, name(number))
            write_run(status_dir, name(50), status="failed")
            rig.settle()
            assert rig.cache.get_dashboard_stats().total_jobs == 90
            assert rig.cache.get_dashboard_stats().failed == 1
            assert rig.cache.meta()["held"] == "30"
            assert rig.cache.freshness().state is CacheState.DEGRADED
            assert "30 of 90 jobs" in (rig.cache.freshness().reason or "")
            write_run(status_dir, name(10))
            rig.refresh()
            assert rig.cache.meta()["held"] == "29"
            rig.refresh(release=True)
            assert rig.cache.freshness().state is CacheState.READY
            assert_agrees(rig)


class TestBadFiles:
    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b" ",
            b"{",
            b'{"status": "runn',
            b"[]",
            b"null",
            b"\xff\xfe",
            b'{"a":' * 5000,
            b"[" * 100_000,
        ]
        + [b"1" * 5000, b"{}garbage"],
        ids=range(11),
    )
    def test_bad_file_keeps_the_last_good_record(self, faulty: Rig, raw: bytes) -> None:
        good = faulty.cache.get_job(*VICTIM)
        write_raw(faulty.status_dir.joinpath(*VICTIM), raw)
        write_run(faulty.status_dir, RUNS[2], status="failed")
        for _ in range(3):
            faulty.refresh(Scope.POLL)
        assert faulty.cache.get_job(*VICTIM) == good
        assert faulty.cache.get_dashboard_stats().failed == 1
        assert faulty.cache.meta()["errors"] == "1"
        write_run(faulty.status_dir, VICTIM, status="preempted")
        faulty.refresh(Scope.POLL)
        assert_agrees(faulty)
        assert faulty.cache.meta()["errors"] == "0"

    def test_file_of_equal_size_and_mtime_with_other_content_is_read(self, faulty: Rig) -> None:
        faulty.refresher.time.advance(30)
        faulty.settle()
        file = faulty.status_dir.joinpath(*VICTIM, "metadata.json")
        before = file.stat()
        file.write_bytes(file.read_bytes().replace(b'"running"', b'"failed" '))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (file.stat().st_size, file.stat().st_mtime_ns) == (
            before.st_size,
            before.st_mtime_ns,
        )
        faulty.refresh(Scope.POLL)
        assert_agrees(faulty)
        assert faulty.cache.get_dashboard_stats().failed == 1
