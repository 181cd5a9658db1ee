"""Which runs are absent, and below which missing path, as a table."""

from __future__ import annotations

import pytest

from jobcache_refresher.scan.absences import Absence, missing_paths, missing_runs
from jobcache_refresher.scan.snapshot import NEVER, Snapshot
from jobcache_refresher.scan.tree import Fingerprint

RUNS = (b"p/g/n/r1", b"p/g/n/r2", b"p/h/n/r1", b"q/g/n/r1")
FILE_ONLY = float("inf")


@pytest.fixture
def snapshot() -> Snapshot:
    """Four runs in two projects, all present and read; the directory of a fifth was never a job."""
    made = Snapshot()
    for path in RUNS:
        made.expect(path, 1.0).fingerprint = Fingerprint(1, 1, 1, 1)
    made.expect(b"p/g/n/empty", 1.0)
    return made


def miss(snapshot: Snapshot, path: bytes, times: int) -> None:
    parent, _, name = path.rpartition(b"/")
    snapshot.directories[parent].children[name] = times


def absent(snapshot: Snapshot) -> dict[bytes, Absence]:
    missing = missing_paths(snapshot.directories.values())
    return missing_runs(snapshot, snapshot.runs.values(), missing)


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ({}, {}),
        ({b"p/g/n/r1": 1}, {RUNS[0]: (b"p/g/n/r1", False)}),
        ({b"p/g/n/r1": 2}, {RUNS[0]: (b"p/g/n/r1", True)}),
        ({b"p/g/n/empty": 2}, {}),
        ({b"p/g": 2}, {RUNS[0]: (b"p/g", True), RUNS[1]: (b"p/g", True)}),
        # Below a project that is missing since the last listing, a run was missing for longer.
        (
            {b"p/g/n/r1": 2, b"p": 1},
            {RUNS[0]: (b"p", True), RUNS[1]: (b"p", False), RUNS[2]: (b"p", False)},
        ),
    ],
)
def test_missing_runs_below_missing_paths_topmost_counts(
    snapshot: Snapshot, missed: dict[bytes, int], expected: dict[bytes, tuple[bytes, bool]]
) -> None:
    for path, times in missed.items():
        miss(snapshot, path, times)
    found = {path: (one.top, one.confirmed) for path, one in absent(snapshot).items()}
    assert found == expected


def test_missing_runs_seen_when_their_directory_lacked_nothing(snapshot: Snapshot) -> None:
    miss(snapshot, b"p", 1)
    assert absent(snapshot)[RUNS[0]].seen_at == NEVER
    snapshot.directories[b""].seen_at = 7.0
    assert absent(snapshot)[RUNS[0]].seen_at == 7.0


@pytest.mark.parametrize(("missed", "confirmed"), [(1, False), (2, True)])
def test_missing_runs_file_alone_is_missing_seen_until_now(
    snapshot: Snapshot, missed: int, confirmed: bool
) -> None:
    snapshot.runs[RUNS[0]].file_missed = missed
    assert absent(snapshot) == {RUNS[0]: Absence(RUNS[0], FILE_ONLY, confirmed)}


def test_missing_runs_file_and_directory_are_missing_directory_counts(snapshot: Snapshot) -> None:
    snapshot.runs[RUNS[0]].file_missed = 1
    miss(snapshot, RUNS[0], 2)
    assert absent(snapshot) == {RUNS[0]: Absence(RUNS[0], NEVER, True)}
