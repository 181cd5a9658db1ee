"""Which missing jobs may be deleted, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from jobcache.schema.job import FINGERPRINT
from jobcache_refresher.clock import Clock
from jobcache_refresher.deletions import WINDOW, Decision, DeletionPolicy, Hold
from jobcache_refresher.moves import Moves
from jobcache_refresher.records import Record
from jobcache_refresher.scan.absences import Absence
from jobcache_refresher.scan.tree import Fingerprint

ALWAYS = -1.0
"""A time before everything."""


class Tree:
    """Published jobs, some of which vanish; scan by scan a policy with the default limits decides about them."""

    def __init__(self, jobs: int, policy: DeletionPolicy | None = None) -> None:
        self.policy = policy or DeletionPolicy(0.2, 50, Moves(1000.0))
        self.records: dict[bytes, Record] = {}
        self.missing: dict[bytes, Absence] = {}
        self.now = 0.0
        self.decision = Decision((), None)
        for number in range(jobs):
            self._add(b"p/g/n%d/r%d" % (number % 7, number), number)

    def _add(self, path: bytes, number: int) -> None:
        text = Fingerprint(number, number, number, number).encode()
        start = b"start %d" % number
        self.records[path] = Record({b"start_time": start, FINGERPRINT: text}, b"1")

    def add(self, names: Iterable[bytes], *, first: int) -> None:
        """New runs are published; their numbers tell runs apart."""
        for number, path in enumerate(names, first):
            self._add(path, number)
            self.policy.note_new(path, self.now)

    def runs(self, count: int) -> list[bytes]:
        """Published runs that are present."""
        return [path for path in self.records if path not in self.missing][:count]

    def lose(self, runs: Sequence[bytes], top: bytes | None = None, *, times: int = 2) -> None:
        """Runs are missing: each for itself, or all with a directory above them."""
        for path in runs:
            self.missing[path] = Absence(top or path, ALWAYS, times > 1)

    def scan(self, *, saw_all: bool = True, released: bool = False) -> tuple[int, int]:
        """How many jobs are deleted, and how many deletions are held."""
        self.now += 5.0
        self.decision = self.policy.decide(
            self.missing, self.records, began=self.now, saw_all=saw_all, released=released
        )
        for path in self.decision.delete:
            del self.records[path], self.missing[path]
        hold = self.decision.hold
        return len(self.decision.delete), hold.jobs if hold else 0

    def wave(self, count: int, *, saw_all: bool = True) -> tuple[int, int]:
        """Single runs are lost, and a scan confirms it."""
        self.lose(self.runs(count))
        return self.scan(saw_all=saw_all)


@pytest.mark.parametrize(
    ("published", "once", "twice", "expected"),
    [
        (1000, 0, 0, (0, 0)),
        (1000, 0, 1, (1, 0)),
        (1000, 0, 200, (200, 0)),  # a fifth is not more than a fifth
        (1000, 0, 201, (0, 201)),
        (1000, 201, 0, (0, 201)),  # missed once only: a hold, but nothing to delete yet
        (1000, 100, 101, (0, 201)),  # noticed in two scans
        (60, 0, 50, (50, 0)),  # few jobs may always go
        (60, 0, 51, (0, 51)),
    ],
)
def test_deletions_share_of_jobs_vanishes_held_above_bounds(
    published: int, once: int, twice: int, expected: tuple[int, int]
) -> None:
    tree = Tree(published)
    tree.lose(tree.runs(once), times=1)
    tree.lose(tree.runs(twice))
    assert tree.scan() == expected


@pytest.mark.parametrize(
    ("published", "waves", "deleted", "held"),
    [
        (1000, [100, 100, 100], 200, 100),
        (1000, [100, 0, 0, 100, 0, 100], 200, 100),  # quiet scans between them change nothing
        (1000, [30] * 10, 180, 120),
        (300, [10] * 13, 60, 70),
        (300, [60, 62], 60, 62),
        (10_000, [60] * 10, 600, 0),  # a user cleans up
        (10_000, [500], 500, 0),  # a retention job
        (60, [10] * 6, 50, 10),
    ],
)
def test_deletions_come_in_waves_held_as_at_once(
    published: int, waves: list[int], deleted: int, held: int
) -> None:
    tree = Tree(published)
    went = [tree.wave(count) for count in waves]
    assert (sum(count for count, _ in went), went[-1][1]) == (deleted, held)


def test_deletions_wave_after_the_window_is_another() -> None:
    tree = Tree(1000)
    assert tree.wave(150) == (150, 0)
    tree.now += WINDOW
    assert tree.wave(150) == (150, 0)
    assert tree.wave(30) == (0, 30)


@pytest.mark.parametrize(("new", "expected"), [(0, (0, 30)), (19, (0, 30)), (20, (30, 0))])
def test_deletions_new_runs_make_good_for_earlier_deletions(
    new: int, expected: tuple[int, int]
) -> None:
    tree = Tree(300)
    assert tree.wave(50) == (50, 0)
    tree.add([b"q/g/n/r%d" % number for number in range(new)], first=1000)
    tree.scan()
    assert tree.wave(30) == expected


def test_deletions_new_runs_make_good_for_no_later_deletions() -> None:
    tree = Tree(300)
    tree.add([b"q/g/n/r%d" % number for number in range(100)], first=1000)
    tree.scan()
    assert tree.wave(80) == (80, 0)
    assert tree.wave(1) == (0, 1)


def test_deletions_jobs_come_and_go_never_held() -> None:
    tree = Tree(100)
    for number in range(200):
        tree.add([b"q/g/n/r%d" % number], first=1000 + number)
        assert tree.wave(1) == (1, 0)


def test_deletions_part_comes_back_hold_goes_on() -> None:
    tree = Tree(1000)
    assert tree.wave(300) == (0, 300)
    tree.missing = dict(list(tree.missing.items())[:10])
    assert tree.scan() == (0, 10)
    assert tree.scan(saw_all=False) == (0, 10)


def test_deletions_all_come_back_hold_ends() -> None:
    tree = Tree(1000)
    assert tree.wave(300) == (0, 300)
    tree.missing = {}
    assert tree.scan(saw_all=False) == (0, 300)  # hints do not see everything
    assert tree.scan() == (0, 0)
    assert tree.wave(100) == (100, 0)


def test_deletions_operator_releases_all_deleted_and_the_hour_begins_anew() -> None:
    tree = Tree(1000)
    assert tree.wave(150) == (150, 0)
    assert tree.wave(300) == (0, 300)
    tree.lose(tree.runs(100), times=1)
    assert tree.scan(released=True) == (300, 0)
    tree.lose(list(tree.missing))  # these were released as well: they are confirmed now
    assert tree.scan() == (100, 0)
    assert tree.wave(80) == (80, 0)
    assert tree.wave(80) == (0, 80)


def lose_project(tree: Tree, count: int) -> None:
    """As many runs as that have vanished with their project."""
    tree.lose(tree.runs(count), b"p")


@pytest.mark.parametrize(
    ("whole", "single", "name", "expected"),
    [
        (100, 0, 0, (0, 100)),
        (100, 1, 0, (1, 100)),
        (100, 0, 3, (3, 100)),  # a name
        (100, 40, 10, (50, 100)),
        (100, 41, 10, (0, 151)),  # scattered, and too many by themselves
        (45, 20, 0, (0, 65)),  # together they are too many
        (0, 300, 0, (0, 300)),
    ],
)
def test_deletions_directories_are_held_single_runs_beside_them_go(
    whole: int, single: int, name: int, expected: tuple[int, int]
) -> None:
    tree = Tree(310)
    lose_project(tree, whole)
    tree.lose(tree.runs(single))
    tree.lose(tree.runs(name), b"other/g/n")
    assert tree.scan() == expected


def test_deletions_hold_is_in_force_few_others_go() -> None:
    tree = Tree(1000)
    lose_project(tree, 400)
    assert tree.scan() == (0, 400)
    for _ in range(5):
        assert tree.wave(10) == (10, 400)
    assert tree.wave(1) == (0, 401)
    tree.now += WINDOW
    assert tree.wave(1) == (1, 401)
    assert tree.wave(1, saw_all=False) == (1, 401)


@pytest.mark.parametrize("top", [b"q", b"q/g"])
def test_deletions_hold_is_in_force_another_directory_joins(top: bytes) -> None:
    tree = Tree(1000)
    lose_project(tree, 400)
    assert tree.scan() == (0, 400)
    tree.lose(tree.runs(5), top)
    assert tree.scan() == (0, 405)
    assert tree.decision.hold is not None
    assert tree.decision.hold.since == 5.0


@pytest.mark.parametrize("place", [b"q/g/n/r%d", b"p/g/other/r%d", b"p/h/n/r%d"])
def test_deletions_runs_have_moved_neither_held_nor_counted(place: bytes) -> None:
    tree = Tree(0)
    tree.add([b"p/g/n/r%d" % number for number in range(180)], first=0)
    tree.add([b"o/g/n/r%d" % number for number in range(120)], first=1000)
    tree.scan()
    tree.add([place % number for number in range(180)], first=0)
    lose_project(tree, 180)
    assert tree.scan() == (180, 0)
    tree.lose([b"o/g/n/r%d" % number for number in range(60)])
    assert tree.scan() == (60, 0)  # a fifth of 300
    assert tree.wave(1) == (0, 1)


@pytest.mark.parametrize(("lost", "expected"), [(60, (240, 0)), (61, (180, 61))])
def test_deletions_runs_are_shown_twice_counted_once(lost: int, expected: tuple[int, int]) -> None:
    tree = Tree(0)
    tree.add([b"p/g/n/r%d" % number for number in range(180)], first=0)
    tree.add([b"o/g/n/r%d" % number for number in range(120)], first=1000)
    tree.scan()
    tree.add([b"q/g/n/r%d" % number for number in range(180)], first=0)
    lose_project(tree, 180)
    tree.lose([b"o/g/n/r%d" % number for number in range(lost)])
    assert tree.scan() == expected


def test_deletions_part_has_moved_rest_counts() -> None:
    tree = Tree(300)
    tree.add([b"q/g/n/r%d" % number for number in range(100)], first=0)
    lose_project(tree, 200)
    assert tree.scan() == (100, 100)


def test_deletions_clients_asked_for_do_not_count() -> None:
    tree = Tree(300)
    for _ in range(5):
        asked = tree.runs(50)
        assert tree.wave(50) == (50, 0)
        for path in asked:
            tree.policy.note_asked(path)


def test_deletions_of_one_run_fail_again_and_again_count_once() -> None:
    tree = Tree(300)
    for _ in range(5):
        records = dict(tree.records)
        assert tree.wave(30) == (30, 0)
        tree.records = records  # Redis did not take it
    assert tree.wave(30) == (30, 0)


def test_deletions_run_was_never_published_goes_and_counts_for_nothing() -> None:
    tree = Tree(300)
    missing = {b"x/g/n/r%d" % number: Absence(b"x", ALWAYS, True) for number in range(200)}
    decision = tree.policy.decide(missing, tree.records, began=1.0, saw_all=True, released=False)
    assert (len(decision.delete), decision.hold) == (200, None)
    assert tree.wave(60) == (60, 0)


def test_deletions_on_hints_wait_for_a_whole_scan_beyond_few() -> None:
    tree = Tree(1000)
    for _ in range(5):
        assert tree.wave(10, saw_all=False) == (10, 0)
    assert tree.wave(1, saw_all=False) == (0, 0)
    assert tree.scan() == (1, 0)
    assert tree.wave(50, saw_all=False) == (50, 0)


def test_deletions_on_hints_beyond_the_limit_wait_for_a_whole_scan() -> None:
    tree = Tree(300)
    assert tree.wave(50) == (50, 0)
    assert tree.wave(20, saw_all=False) == (0, 0)
    assert tree.scan() == (0, 20)


def test_deletions_leader_before_held_some_held_again() -> None:
    tree = Tree(1000, DeletionPolicy(0.2, 50, Moves(1000.0), holds_on=True))
    assert tree.wave(3, saw_all=False) == (0, 0)
    assert tree.scan() == (0, 3)
    assert tree.wave(3) == (3, 3)
    assert tree.scan(released=True) == (3, 0)


def test_deletions_leader_before_held_some_that_are_back_nothing_is_held() -> None:
    tree = Tree(1000, DeletionPolicy(0.2, 50, Moves(1000.0), holds_on=True))
    assert tree.scan() == (0, 0)
    assert tree.wave(3) == (3, 0)


@pytest.mark.parametrize(
    ("tops", "directory"),
    [
        ([b"p"], b"p"),
        ([b"p/g/n"], b"p/g/n"),
        ([b"p/g/n1", b"p/g/n2", b"p/g/n2/r"], b"p/g"),
        ([b"p/g", b"p/g2"], b"p"),
        ([b"p", b"p2"], b""),
    ],
)
def test_deletions_are_held_common_directory_is_told(tops: list[bytes], directory: bytes) -> None:
    tree = Tree(300)
    for top in tops:
        tree.lose(tree.runs(90), top)
    tree.scan()
    tree.scan()
    assert tree.decision.hold == Hold(90 * len(tops), 5.0, directory)


@pytest.mark.parametrize(
    ("directory", "where"), [(b"p/g", "below 'p/g'"), (b"", "in several projects")]
)
def test_hold_is_described_how_many_where_and_since_when(directory: bytes, where: str) -> None:
    clock = Clock(time=lambda: 1_800_000_100.0, monotonic=lambda: 150.0)
    assert Hold(61, 50.0, directory).describe(180, clock) == (
        "61 of 180 jobs vanished at once: their deletion waits for 'jobcache-refresher release' "
        f"({where}, since 2027-01-15 08:00 UTC)"
    )
