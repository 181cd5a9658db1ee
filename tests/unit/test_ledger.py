"""What the ledger says of a path after each thing that can happen to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobcache_refresher.ledger import Ledger, PathState
from jobcache_refresher.records import Fields, Record

PATH = b"p/g/n/r"
FIELDS: Fields = {b"status": b"failed", b"job_key": b""}
CHANGED: Fields = {b"status": b"completed", b"job_key": b""}


def published(ledger: Ledger) -> None:
    ledger.publish(PATH, Record(FIELDS, b"1"))


def read(ledger: Ledger) -> None:
    ledger.expect({PATH: CHANGED})


def failed(ledger: Ledger) -> None:
    ledger.drop_pending()


def conflict(ledger: Ledger) -> None:
    ledger.mark_conflict(PATH)


def deleted(ledger: Ledger) -> None:
    ledger.quarantine(PATH, 10.0)


def over(ledger: Ledger) -> None:
    ledger.end_quarantines(10.0)


def lost(ledger: Ledger) -> None:
    ledger.lose_epoch()


def dropped(ledger: Ledger) -> None:
    ledger.drop(PATH)


@pytest.mark.parametrize(
    ("steps", "is_published", "state"),
    [
        ([], False, None),
        ([published], True, None),
        ([read], False, PathState.PENDING),
        ([published, read], True, PathState.PENDING),
        ([read, published], True, None),  # what was read is in Redis now
        ([published, read, failed], True, PathState.UNREAD),
        ([published, read, conflict], True, PathState.CONFLICT),
        ([published, read, deleted], False, PathState.QUARANTINED),
        ([published, deleted, read], False, PathState.QUARANTINED),  # files do not count yet
        ([published, deleted, read, failed], False, PathState.QUARANTINED),
        ([published, deleted, over], False, None),
        ([published, deleted, over, read], False, PathState.PENDING),
        ([published, lost], False, PathState.REMEMBERED),
        ([published, read, lost], False, PathState.REMEMBERED),
        ([published, lost, published], True, None),
        ([published, lost, deleted], False, PathState.QUARANTINED),
        ([published, dropped], False, None),
        ([read, dropped], False, None),
    ],
)
def test_ledger_after_steps_path_has_one_state(
    steps: list[Callable[[Ledger], None]], is_published: bool, state: PathState | None
) -> None:
    ledger = Ledger()
    for step in steps:
        step(ledger)
    assert (PATH in ledger.records, ledger.state_of(PATH)) == (is_published, state)
    for one in PathState:
        assert [path for path, _ in ledger.items(one)] == ([PATH] if one is state else [])


def test_ledger_quarantine_ends_at_its_time_only() -> None:
    ledger = Ledger()
    ledger.quarantine(PATH, 10.0)
    assert ledger.end_quarantines(9.9) == frozenset()
    assert ledger.state_of(PATH) is PathState.QUARANTINED
    assert ledger.end_quarantines(10.0) == {PATH}


def test_ledger_adopts_records_memory_of_an_earlier_epoch_goes() -> None:
    ledger = Ledger()
    published(ledger)
    ledger.lose_epoch()
    ledger.adopt({b"p/g/n/other": Record(FIELDS, b"7")})
    assert ledger.count(PathState.REMEMBERED) == 0
    assert list(ledger.records) == [b"p/g/n/other"]


def test_ledger_records_move_expected_sizes_follow() -> None:
    ledger = Ledger()
    assert ledger.expected.sizes(ledger.records) == {}
    published(ledger)
    assert ledger.expected.sizes(ledger.records)[b"status:failed"] == 1
    ledger.publish(PATH, Record(CHANGED, b"2"))
    sizes = ledger.expected.sizes(ledger.records)
    assert (sizes[b"status:completed"], sizes.get(b"status:failed")) == (1, None)
    ledger.drop(PATH)
    assert ledger.expected.sizes(ledger.records) == {}
