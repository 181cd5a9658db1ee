"""Which missing runs have moved, as a table."""

from __future__ import annotations

import pytest

from jobcache.schema.job import FINGERPRINT
from jobcache_refresher.moves import Moves
from jobcache_refresher.records import Record, Records
from jobcache_refresher.scan.absences import Absence
from jobcache_refresher.scan.tree import Fingerprint

OLD, NEW, OTHER = b"p/g/n/r1", b"q/g/n/r1", b"q/g/n/other"
SEEN, MET = 10.0, 15.0
"""When the last scan began that found the old place, and when the one that met the new place."""
MEMORY = 60.0


def record(
    *,
    mtime: int = 100,
    ctime: int = 100,
    size: int = 2000,
    inode: int = 5,
    start: bytes = b"2026-11-01T10:00:00.000001",
    key: bytes = b"p/train/n",
    config: bytes = b'{"lr": 1}',
) -> Record:
    fields = {
        b"status": b"running",
        b"start_time": start,
        b"job_key": key,
        b"config": config,
        FINGERPRINT: Fingerprint(mtime, ctime, size, inode).encode(),
    }
    return Record(fields, b"1")


def absence(seen_at: float = SEEN, *, confirmed: bool = False) -> Absence:
    return Absence(b"p", seen_at, confirmed)


def find(
    moves: Moves,
    missing: dict[bytes, Absence],
    records: Records,
    *,
    began: float = MET,
    saw_all: bool = True,
) -> set[bytes]:
    return moves.find(missing, records, began=began, saw_all=saw_all).moved


def moved(old: Record, new: Record, *, place: bytes = NEW, met_at: float = MET) -> bool:
    """Whether one missing run counts as moved to where another was met."""
    moves = Moves(MEMORY)
    moves.note_new(place, met_at)
    return find(moves, {OLD: absence()}, {OLD: old, place: new}) == {OLD}


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (record(), True),  # a directory above it was renamed
        (record(ctime=200), True),  # some filesystems change it when a name changes
        (record(mtime=200, size=2001), True),  # the job wrote again since
        (record(inode=6), True),  # new inode numbers each time, or moved between filesystems
        (record(inode=6, mtime=200), False),  # a copy that was written to
        (record(inode=6, size=2001), False),
        (record(start=b"2026-11-01T10:00:00.000002"), False),  # an inode that is used again
        (record(key=b"q/train/n"), False),
        (record(config=b'{"lr": 2}'), False),  # all files show one time, one size and one inode
    ],
)
def test_moves_another_run_is_met_moved_if_it_is_the_same(new: Record, expected: bool) -> None:
    assert moved(record(), new) is expected


@pytest.mark.parametrize(
    ("inode", "mtime", "expected"), [(5, 100, True), (6, 100, True), (5, 200, False)]
)
def test_moves_start_time_is_not_known_file_must_be_equal(
    inode: int, mtime: int, expected: bool
) -> None:
    assert moved(record(start=b""), record(start=b"", inode=inode, mtime=mtime)) is expected


@pytest.mark.parametrize(("inode", "expected"), [(5, True), (6, False)])
def test_moves_run_has_another_id_inode_must_be_equal(inode: int, expected: bool) -> None:
    assert moved(record(), record(inode=inode), place=OTHER) is expected


@pytest.mark.parametrize("text", [b"", b"1:2:3", b"not:a:finger:print"])
def test_moves_fingerprint_cannot_be_read_lost(text: bytes) -> None:
    old = record()
    old.fields[FINGERPRINT] = text
    assert not moved(old, record())


@pytest.mark.parametrize(
    ("met_at", "expected"),
    [
        (SEEN - 1, False),  # a copy, with or without links, that was there before
        (SEEN, False),  # one scan found both: a copy
        (SEEN + 1, True),
    ],
)
def test_moves_both_were_found_by_one_scan_lost(met_at: float, expected: bool) -> None:
    assert moved(record(), record(), met_at=met_at) is expected


def test_moves_new_place_is_met_later_moved_then() -> None:
    moves, records = Moves(MEMORY), {OLD: record()}
    assert find(moves, {OLD: absence()}, records) == set()
    moves.note_new(NEW, 20.0)
    records[NEW] = record()
    assert find(moves, {OLD: absence(confirmed=True)}, records, began=20.0) == {OLD}


def test_moves_run_has_moved_stays_so_while_it_is_missing() -> None:
    moves, records = Moves(MEMORY), {OLD: record(), NEW: record()}
    moves.note_new(NEW, MET)
    assert find(moves, {OLD: absence()}, records) == {OLD}
    # The new place is lost now. The old one was left before.
    both = {OLD: absence(confirmed=True), NEW: absence(MET)}
    assert find(moves, both, records, began=20.0) == {OLD}
    assert find(moves, {NEW: absence(MET)}, records, began=25.0, saw_all=False) == set()


def test_moves_place_is_missing_itself_lost() -> None:
    moves, records = Moves(MEMORY), {OLD: record(), NEW: record()}
    moves.note_new(NEW, MET)
    assert find(moves, {OLD: absence(), NEW: absence(NEW_SEEN)}, records) == set()


NEW_SEEN = MET + 1


def test_moves_rename_is_taken_back_moved_back() -> None:
    moves, records = Moves(MEMORY), {OLD: record(), NEW: record()}
    moves.note_new(NEW, MET)
    assert find(moves, {OLD: absence()}, records) == {OLD}
    assert find(moves, {NEW: absence(MET)}, records, began=20.0) == {NEW}


def test_moves_twice_in_a_row_both_places_are_left() -> None:
    third = b"s/g/n/r1"
    moves, records = Moves(MEMORY), {OLD: record(), NEW: record()}
    moves.note_new(NEW, MET)
    assert find(moves, {OLD: absence()}, records) == {OLD}
    records[third] = record()
    moves.note_new(third, 20.0)
    both = {OLD: absence(confirmed=True), NEW: absence(MET)}
    assert find(moves, both, records, began=20.0) == {OLD, NEW}


def test_moves_equal_runs_each_new_one_stands_for_one() -> None:
    runs = {b"p/g/n%d/r" % number: record(start=b"") for number in range(3)}
    moves, records = Moves(MEMORY), {**runs, b"q/g/n/r": record(start=b"")}
    moves.note_new(b"q/g/n/r", MET)
    assert len(find(moves, dict.fromkeys(runs, absence()), records)) == 1


def test_moves_new_run_is_old_news_forgotten() -> None:
    moves, records = Moves(MEMORY), {OLD: record(), NEW: record()}
    moves.note_new(NEW, MET)
    for later in (0, MEMORY + 1, MEMORY + 2):
        find(moves, {}, records, began=MET + later)
    assert find(moves, {OLD: absence()}, records, began=MET + MEMORY + 3) == set()


def test_moves_scan_took_longer_than_new_runs_are_remembered_moved() -> None:
    moves, records = Moves(MEMORY), {OLD: record(), NEW: record()}
    moves.note_new(NEW, MET)
    find(moves, {}, records, began=MET)
    assert find(moves, {OLD: absence()}, records, began=MET + 10 * MEMORY) == {OLD}


def test_moves_new_runs_counted_once_without_those_that_moved() -> None:
    moves, records = Moves(MEMORY), {OLD: record(), NEW: record(), OTHER: record(start=b"x")}
    moves.note_new(NEW, MET)
    moves.note_new(OTHER, MET)
    assert moves.find({OLD: absence()}, records, began=MET, saw_all=True).new == 1
    assert moves.find({OLD: absence()}, records, began=20.0, saw_all=True).new == 0
