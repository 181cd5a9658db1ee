"""Which runs without a readable file are looked at, and when."""

from __future__ import annotations

import pytest

from jobcache_refresher.scan.schedule import Schedule
from jobcache_refresher.scan.snapshot import KnownRun
from jobcache_refresher.scan.tree import Fingerprint
from jobcache_refresher.scan.waiting import Waiting

GROUP = b"p/g"
POLL, RELIST = 10.0, 60.0
READ = Fingerprint(1, 2, 3, 4)


def some(count: int, group: bytes = GROUP) -> dict[bytes, KnownRun]:
    """Runs that are waited for, the last one the newest."""
    paths = [group + b"/n/%04d" % number for number in range(count)]
    return {path: KnownRun(path, float(number)) for number, path in enumerate(paths)}


def looked_at(waiting: Waiting, runs: dict[bytes, KnownRun], now: float = 0.0) -> None:
    for run in runs.values():
        run.look_at = now + waiting.interval(run, 1e6, b"d")


def test_the_newest_are_looked_at_in_a_relist_however_long_it_took() -> None:
    waiting, runs = Waiting(Schedule(POLL, RELIST, 900), newest=5), some(20)
    looked_at(waiting, runs)
    waiting.in_busy_groups(runs, set(), 0.0)
    looked_at(waiting, runs)
    soon = [path for path, run in runs.items() if run.look_at + POLL <= RELIST]
    assert soon == list(runs)[-5:]
    assert all(run.look_at >= 0.75 * 890 for run in list(runs.values())[:-5])


def test_of_equal_age_the_later_run_ids_are_the_newest() -> None:
    waiting, runs = Waiting(Schedule(POLL, RELIST, 900), newest=2), some(6)
    for run in runs.values():
        run.changed_at = 7.0
    looked_at(waiting, runs)
    waiting.in_busy_groups(runs, set(), 0.0)
    looked_at(waiting, runs)
    assert [path for path, run in runs.items() if run.look_at < RELIST] == list(runs)[-2:]


@pytest.mark.parametrize(
    ("busy", "count", "newest", "expected"),
    [
        ({GROUP}, 10, 1000, 10),
        ({b"other"}, 10, 1000, 0),
        (set(), 10, 1000, 0),
        ({GROUP}, 400, 1000, 166),
        ({GROUP}, 60, 30, 5),
    ],
    ids=["busy", "another group", "quiet", "more than a poll may cost", "only the newest"],
)
def test_in_busy_groups_every_poll_looks_at_the_newest(
    busy: set[bytes], count: int, newest: int, expected: int
) -> None:
    waiting, runs = Waiting(Schedule(POLL, RELIST, 900), newest=newest), some(count)
    looked_at(waiting, runs)
    early = waiting.in_busy_groups(runs, busy, 1.0)
    assert [run.path for run in early] == list(reversed(runs))[:expected]


def test_what_is_due_counts_for_what_a_poll_may_cost() -> None:
    waiting, runs = Waiting(Schedule(POLL, RELIST, 900), newest=60), some(20)
    looked_at(waiting, runs)
    for run in list(runs.values())[:7]:
        run.look_at = 0.0
    assert len(waiting.in_busy_groups(runs, {GROUP}, 1.0)) == 60 // 6 - 7


def test_what_was_read_or_forgotten_is_waited_for_no_longer() -> None:
    waiting, runs = Waiting(Schedule(POLL, RELIST, 900)), some(4)
    looked_at(waiting, runs)
    forgotten, read, troubled, waited = runs.values()
    del runs[forgotten.path]
    read.fingerprint = troubled.fingerprint = READ
    troubled.trouble = "empty"
    assert waiting.in_busy_groups(runs, {GROUP}, 1.0) == [waited, troubled]
