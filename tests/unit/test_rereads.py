"""Which outdated runs a scan reads anew."""

from __future__ import annotations

import pytest

from jobcache_refresher.clock import Clock
from jobcache_refresher.scan.rereads import PER_SECOND, Rereads
from jobcache_refresher.scan.snapshot import Snapshot

LONGEST_PAUSE = 10.0


class Hand:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = 1000.0

    def read(self) -> float:
        return self.at


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def rereads(hand: Hand) -> Rereads:
    return Rereads(Clock(hand.read, hand.read), LONGEST_PAUSE)


def outdated(count: int) -> Snapshot:
    """A snapshot of so many runs, all of them outdated; a later one changed later."""
    snapshot = Snapshot()
    for number in range(count):
        path = b"p/g/n/%05d" % number
        snapshot.expect(path, float(number))
        snapshot.outdated.add(path)
    return snapshot


@pytest.mark.parametrize(
    ("pauses", "taken"),
    [
        ([1.0], [PER_SECOND]),
        ([0.25, 0.5], [PER_SECOND // 4, PER_SECOND // 2]),
        ([0.0, 0.001, 0.005], [0, 0, 1]),
        ([LONGEST_PAUSE], [10 * PER_SECOND]),
        ([1e6, 1.0], [10 * PER_SECOND, PER_SECOND]),
        ([1e6, 1e6], [10 * PER_SECOND, 500]),
        ([1e6, 1e6, 1.0], [10 * PER_SECOND, 500, 0]),
    ],
)
def test_take_after_a_pause_hands_out_at_a_bounded_rate(
    rereads: Rereads, hand: Hand, pauses: list[float], taken: list[int]
) -> None:
    snapshot = outdated(10 * PER_SECOND + 500)
    rereads.begin(snapshot)
    found = []
    for pause in pauses:
        hand.at += pause
        found.append(rereads.take(snapshot.outdated))
    assert [len(paths) for paths in found] == taken
    everything = [path for paths in found for path in paths]
    assert len(set(everything)) == len(everything)


def test_take_hands_out_live_runs_first_and_then_what_changed_last(
    rereads: Rereads, hand: Hand
) -> None:
    snapshot = outdated(4)
    runs = list(snapshot.runs.values())
    runs[1].beat, runs[0].beat = 500.0, 900.0
    rereads.begin(snapshot)
    hand.at += 1
    assert rereads.take(snapshot.outdated) == [run.path for run in (runs[0], runs[1], runs[3], runs[2])]  # fmt: skip


def test_take_passes_over_what_was_read_or_forgotten_meanwhile(
    rereads: Rereads, hand: Hand
) -> None:
    snapshot = outdated(3)
    rereads.begin(snapshot)
    snapshot.forget(b"p/g/n/00002")
    snapshot.outdated.discard(b"p/g/n/00000")
    hand.at += 1
    assert rereads.take(snapshot.outdated) == [b"p/g/n/00001"]


def test_begin_drops_what_was_handed_over_before(rereads: Rereads, hand: Hand) -> None:
    snapshot = outdated(3)
    rereads.begin(snapshot)
    rereads.begin(Snapshot())
    hand.at += 1
    assert rereads.take(snapshot.outdated) == []
