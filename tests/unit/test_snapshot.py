"""What a snapshot knows of directories and runs after each step of its bookkeeping."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from jobcache_refresher.scan.snapshot import PASSING_LOOKS, ROOT, KnownRun, Snapshot, join
from jobcache_refresher.scan.tree import Fingerprint

RUNS = (b"p/g/n/r1", b"p/g/n/r2", b"p/g/other/r1", b"q/g/n/r1")


@pytest.fixture
def snapshot() -> Snapshot:
    """Four runs in two projects, all present."""
    made = Snapshot()
    for path in RUNS:
        made.expect(path, 1.0)
    return made


def miss(snapshot: Snapshot, path: bytes) -> None:
    """Have a name be missing from its parent's listing."""
    parent, _, name = path.rpartition(b"/")
    snapshot.directories[parent].children[name] += 1


def check_whole(snapshot: Snapshot) -> None:
    """Every run is a child of a known directory, and so is every directory, up to the root."""
    for path in [*snapshot.runs, *(path for path in snapshot.directories if path != ROOT)]:
        parent, _, name = path.rpartition(b"/")
        assert name in snapshot.directories[parent].children


def test_a_run_makes_its_parents_known(snapshot: Snapshot) -> None:
    depths = {path: one.depth for path, one in snapshot.directories.items()}
    assert depths == {
        path: len(PurePosixPath(path.decode()).parts)
        for path in (ROOT, b"p", b"p/g", b"p/g/n", b"p/g/other", b"q", b"q/g", b"q/g/n")
    }
    assert snapshot.expect(RUNS[0], 2.0) is snapshot.runs[RUNS[0]]
    check_whole(snapshot)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"", RUNS),
        (b"p", RUNS[:3]),
        (b"p/g/n", RUNS[:2]),
        (b"p/g/n/r2", RUNS[1:2]),
        (b"unknown", ()),
        (b"p/g/n/unknown", ()),
    ],
)
def test_the_runs_below(snapshot: Snapshot, path: bytes, expected: tuple[bytes, ...]) -> None:
    assert tuple(run.path for run in snapshot.runs_below(path)) == expected


@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        (b"p/g/n/r1", RUNS[:1]),
        (b"p/g/n", RUNS[:2]),
        (b"p", RUNS[:3]),
    ],
)
def test_what_is_below_a_missing_name_is_gone(
    snapshot: Snapshot, missing: bytes, gone: tuple[bytes, ...]
) -> None:
    miss(snapshot, missing)
    assert tuple(path for path in RUNS if snapshot.is_gone(path)) == gone
    present = [run.path for run in snapshot.present(snapshot.runs.values())]
    assert present == [path for path in RUNS if path not in gone]
    snapshot.expect(RUNS[0], 2.0)
    assert snapshot.is_gone(RUNS[0])  # that a run was heard of is no observation of its directory


def test_directories_that_are_missing_are_not_listed(snapshot: Snapshot) -> None:
    miss(snapshot, b"p/g/other")
    assert [one.path for one in snapshot.present_below(b"p/g")] == [b"p/g/n"]
    assert snapshot.directories[b"p/g"].has_missing
    assert snapshot.present_below(b"p/g/n") == []


@pytest.mark.parametrize(
    ("missing", "forgotten", "left"),
    [
        (b"q/g/n/r1", b"q/g/n/r1", {b"q", b"q/g", b"q/g/n"}),
        (b"q/g/n", b"q/g/n/r1", {b"q", b"q/g"}),
        (b"q", b"q/g/n/r1", set()),
    ],
    ids=["a run alone", "its parent too", "everything above it"],
)
def test_a_run_that_is_forgotten_takes_along_what_is_gone_above_it(
    snapshot: Snapshot, missing: bytes, forgotten: bytes, left: set[bytes]
) -> None:
    miss(snapshot, missing)
    snapshot.forget(forgotten)
    assert forgotten not in snapshot.runs
    assert {path for path in snapshot.directories if path.startswith(b"q")} == left
    assert (b"q" in snapshot.directories[ROOT].children) is bool(left)
    check_whole(snapshot)


def test_directories_that_are_gone_are_pruned_whole(snapshot: Snapshot) -> None:
    miss(snapshot, b"p")
    for path in RUNS[:3]:
        del snapshot.runs[path]
    snapshot.prune(b"p")
    assert set(snapshot.directories) == {ROOT, b"q", b"q/g", b"q/g/n"}
    assert set(snapshot.directories[ROOT].children) == {b"q"}


def test_what_is_doubted_is_looked_at_again(snapshot: Snapshot) -> None:
    for directory in snapshot.directories.values():
        directory.racy = False
    for run in snapshot.runs.values():
        run.look_at = 1e9
    snapshot.doubt_all()
    assert all(directory.racy for directory in snapshot.directories.values())
    assert all(run.look_at < 0 for run in snapshot.runs.values())


@pytest.mark.parametrize(
    ("fingerprint", "trouble", "waiting"),
    [
        (None, None, True),
        (None, "empty", True),
        (Fingerprint(1, 2, 3, 4), "empty", True),
        (Fingerprint(1, 2, 3, 4), None, False),
    ],
)
def test_a_run_without_a_file_that_can_be_read_is_waited_for(
    fingerprint: Fingerprint | None, trouble: str | None, waiting: bool
) -> None:
    run = KnownRun(b"p/g/n/r", 0.0, fingerprint=fingerprint, trouble=trouble)
    assert run.is_waiting is waiting


def test_join() -> None:
    assert (join(ROOT, b"p"), join(b"p", b"g")) == (b"p", b"p/g")


def test_problems_name_what_is_not_read_and_nothing_that_is_gone() -> None:
    snapshot = Snapshot()
    for path in (b"p/g/n/bad", b"p/g/n/gone", b"q/g/n/r"):
        snapshot.expect(path, 0.0).trouble = "empty"
    snapshot.directories[b"p/g/n"].children[b"gone"] = 1
    snapshot.expect(b"q/g/n/odd", 0.0).remark = "from the future"
    snapshot.expect(b"q/g/n/fine", 0.0)
    snapshot.runs[b"q/g/n/r"].remark = "from the future"
    snapshot.directories[b"q"].trouble = "cannot be listed"
    snapshot.directories[b"p/g"].passed_over = {b"link": "is a link"}
    assert dict(snapshot.problems()) == {
        b"q": "cannot be listed",
        b"p/g/link": "is a link",
        b"p/g/n/bad": "empty",
        b"q/g/n/r": "empty",
        b"q/g/n/odd": "from the future",
    }


def test_a_run_that_is_forgotten_is_no_longer_outdated(snapshot: Snapshot) -> None:
    snapshot.outdated.update(RUNS)
    snapshot.forget(RUNS[0])
    assert snapshot.outdated == set(RUNS[1:])


@pytest.mark.parametrize(
    ("troubled", "known", "told"),
    [(1, (), False), (3, (), False), (1, (RUNS[0],), True), (PASSING_LOOKS, (), True)],
    ids=["just written", "still", "known before a restart", "for too long"],
)
def test_trouble_that_may_pass_is_no_problem_unless_it_was_one(
    snapshot: Snapshot, troubled: int, known: tuple[bytes, ...], told: bool
) -> None:
    run = snapshot.runs[RUNS[0]]
    run.trouble, run.troubled = "empty", troubled
    assert dict(snapshot.problems(known)) == ({RUNS[0]: "empty"} if told else {})
