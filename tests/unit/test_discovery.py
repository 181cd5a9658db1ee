"""Which directories are listed, and what their listings are believed to mean, on filesystems of many kinds."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

import pytest

from jobcache_refresher.scan.discovery import FEW
from jobcache_refresher.scan.filesystem import SEVERAL
from jobcache_refresher.scan.scope import Scope
from tests.unit.scripted import (
    POLL,
    RELIST,
    RESYNC,
    SECOND,
    HandClock,
    Node,
    Scanned,
    ScriptedTree,
    gone,
)

RUNS = (b"p/g/n/r1", b"p/g/n/r2", b"p/g/m/r1", b"p/h/n/r1", b"q/g/n/r1")
A_RELIST, A_RESYNC = int(RELIST / POLL), int(RESYNC / POLL)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def tree(clock: HandClock) -> ScriptedTree:
    made = ScriptedTree(clock)
    for path in RUNS:
        clock.now -= 7200.25
        made.write(path)
    clock.now += 7200.25 * len(RUNS)
    return made


@pytest.fixture
def scanned(tree: ScriptedTree, clock: HandClock) -> Scanned:
    return Scanned(tree, clock)


def jobs(scanned: Scanned) -> set[bytes]:
    return {path for path, run in scanned.scanner.snapshot.runs.items() if run.fingerprint}


def below(path: bytes) -> bytes:
    """A path of a run below a directory, of names that are new."""
    return b"/".join((path + b"/new" * 4).split(b"/")[:4])


def have_busy(scanned: Scanned) -> None:
    """Have the group p/g be busy."""
    scanned.tree.write(b"p/g/busy/r")
    scanned.scan(Scope.RELIST)
    scanned.poll()


def keep_times(tree: ScriptedTree, path: bytes) -> Callable[[], None]:
    """What sets a directory's mtime back to what it is now, as rsync does."""
    mtime_ns, _ = tree.node(path).times

    def set_back() -> None:
        node = tree.node(path)
        tree.touch(node)
        node.times = (mtime_ns, node.times[1])

    return set_back


class TestAtRest:
    def test_a_poll_lists_the_root_alone(self, scanned: Scanned) -> None:
        scanned.quieten()
        scanned.scan(Scope.RELIST)
        scanned.poll()
        assert set(scanned.tree.listed) == {b""}

    def test_projects_and_groups_are_listed_in_a_relist_and_names_in_a_resync(
        self, scanned: Scanned
    ) -> None:
        scanned.quieten()
        scanned.scan(Scope.RELIST)
        listed: list[bytes] = []
        for _ in range(A_RELIST):
            scanned.poll()
            listed += scanned.tree.listed
        assert {b"p", b"q", b"p/g", b"p/h", b"q/g"} <= set(listed)
        assert not {b"p/g/n", b"p/g/m"} & set(listed)
        for _ in range(A_RESYNC):
            scanned.poll()
            listed += scanned.tree.listed
        assert {b"p/g/n", b"p/g/m", b"p/h/n", b"q/g/n"} <= set(listed)

    @pytest.mark.parametrize("ahead", [365 * 86400.0, 3600.0, -3600.0])
    def test_a_clock_that_differs_costs_no_listing_in_every_poll(
        self, scanned: Scanned, ahead: float
    ) -> None:
        scanned.tree.offset = ahead
        scanned.tree.write(b"p/g/n/new")
        scanned.scan(Scope.RELIST)
        scanned.poll()
        scanned.time.now += 700  # not busy any more
        scanned.scan(Scope.RELIST)
        scanned.poll()
        assert b"p/g/n" not in scanned.tree.listed
        assert b"p/g" not in scanned.tree.listed


class TestChanges:
    @pytest.mark.parametrize("busy", [False, True])
    def test_a_new_run_is_found_although_the_mtime_was_set_back(
        self, scanned: Scanned, busy: bool
    ) -> None:
        scanned.quieten()
        if busy:
            have_busy(scanned)
        set_back = keep_times(scanned.tree, b"p/g/n")
        scanned.tree.write(b"p/g/n/new")
        set_back()
        assert scanned.found_after(b"p/g/n/new", A_RESYNC) in range(1, 2 if busy else A_RELIST + 1)

    def test_a_deletion_is_found_although_the_mtime_was_set_back(self, scanned: Scanned) -> None:
        scanned.quieten()
        have_busy(scanned)
        set_back = keep_times(scanned.tree, b"p/g/n")
        scanned.tree.remove(b"p/g/n/r1")
        set_back()
        scanned.poll()
        assert gone(scanned.poll()) == {b"p/g/n/r1"}

    @pytest.mark.parametrize("path", [b"p", b"p/g", b"p/g/n"])
    def test_another_directory_with_equal_times_is_listed(
        self, scanned: Scanned, path: bytes
    ) -> None:
        """As where the filesystem keeps no ctime of its own, and a copy took the place of the directory."""
        scanned.quieten()
        have_busy(scanned)
        parent = path.rpartition(b"/")[0]
        times = scanned.tree.node(path).times, scanned.tree.node(parent).times
        scanned.tree.remove(path)
        new = below(path)
        scanned.tree.write(new)
        scanned.tree.node(path).times, scanned.tree.node(parent).times = times
        assert scanned.found_after(new, A_RELIST) in (1, 2)

    @pytest.mark.parametrize("runs", [1, FEW])
    def test_a_run_made_anew_is_read_although_it_bears_the_same_number(
        self, scanned: Scanned, runs: int
    ) -> None:
        """As ext4 gives the number of a removed directory to the next one; an ended run is at rest otherwise."""
        for number in range(runs):
            scanned.tree.write(b"p/g/many/r%d" % number)
        scanned.quieten()
        have_busy(scanned)
        removed = scanned.tree.remove(b"p/g/many/r0")
        scanned.tree.write(b"p/g/many/r0", status="failed")
        scanned.tree.node(b"p/g/many/r0").inode = removed.inode
        scanned.poll()
        assert scanned.published[b"p/g/many/r0"][b"status"] == b"failed"
        scanned.poll(2)
        assert b"p/g/many/r1" not in scanned.tree.looked_at

    @pytest.mark.parametrize(
        ("ahead", "tick"),
        [(0.0, SECOND), (0.0, 2 * SECOND), (3600.0, SECOND), (-3600.0, SECOND)],
        ids=["ticks of 1 s", "ticks of 2 s", "a clock that is ahead", "a clock that is behind"],
    )
    def test_a_second_change_within_a_tick_is_found(
        self, clock: HandClock, tree: ScriptedTree, ahead: float, tick: int
    ) -> None:
        scanned = Scanned(tree, clock, poll_interval=0.5)
        scanned.quieten()
        tree.offset, tree.tick = ahead, tick
        have_busy(scanned)
        clock.now = float(int(clock.now) // 2 * 2 + 2) + 0.1
        tree.write(b"p/g/n/first")
        clock.now += 0.1
        scanned.scan()
        assert b"p/g/n/first" in jobs(scanned)
        before = tree.node(b"p/g/n").times
        tree.write(b"p/g/n/second")
        assert tree.node(b"p/g/n").times == before
        for _ in range(10):
            clock.now += 0.5
            scanned.scan()
        assert b"p/g/n/second" in jobs(scanned)


class TestTimesThatProveNothing:
    @pytest.fixture(
        params=[lambda node: (0, 0), lambda node: (5 * 10**18, 5 * 10**18)],
        ids=["1970", "the time of the mount"],
    )
    def constant(
        self, request: pytest.FixtureRequest, scanned: Scanned, monkeypatch: pytest.MonkeyPatch
    ) -> Scanned:
        monkeypatch.setattr(scanned.tree, "times_for", request.param)
        scanned.quieten()
        return scanned

    def test_in_a_quiet_group_a_new_run_is_found_within_a_relist(self, constant: Scanned) -> None:
        constant.tree.write(b"p/g/n/new")
        assert constant.found_after(b"p/g/n/new", A_RESYNC) in range(1, A_RELIST + 1)

    def test_in_a_busy_group_it_is_found_by_the_next_poll(self, constant: Scanned) -> None:
        have_busy(constant)
        constant.tree.write(b"p/g/n/new")
        assert constant.found_after(b"p/g/n/new", A_RESYNC) == 1

    def test_a_group_at_rest_is_not_listed_in_every_poll(self, constant: Scanned) -> None:
        constant.scan(Scope.RELIST)
        constant.poll()
        assert set(constant.tree.listed) == {b""}

    def test_times_that_differ_and_never_change_are_recognised_and_logged_once(
        self,
        scanned: Scanned,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def never(node: Node) -> tuple[int, int]:
            return (node.inode * SECOND, node.inode * SECOND)

        monkeypatch.setattr(scanned.tree, "times_for", never)
        scanned.quieten()
        caplog.set_level(logging.WARNING)
        scanned.tree.write(b"q/g/n/first")
        assert scanned.found_after(b"q/g/n/first", A_RESYNC) is not None
        scanned.scan(
            Scope.HINTS, [b"p/h/n/r1"]
        )  # what was just listed is due late, as far as times prove
        scanned.poll(2 * A_RELIST)
        for number in range(3):
            new = b"p/h/n/new%d" % number
            scanned.tree.write(new)
            assert scanned.found_after(new, A_RESYNC) in range(1, A_RELIST + 1)
        assert caplog.text.count("directory times prove nothing on this filesystem") == 1

    def test_times_that_are_shown_late_are_believed(
        self, scanned: Scanned, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The directory is listed while the filesystem still shows its old times."""
        scanned.quieten()
        scanned.poll(A_RELIST)
        for number in range(3):
            late, old = scanned.tree.node(b"p/h/n"), scanned.tree.node(b"p/h/n").times
            scanned.tree.write(b"p/h/n/new%d" % number)
            new, late.times = late.times, old
            scanned.time.now += RESYNC
            scanned.scan()
            assert b"p/h/n/new%d" % number in jobs(scanned)
            late.times = new
            scanned.poll(2 * A_RELIST)
        assert "prove" not in caplog.text


class TestNumbersThatProveNothing:
    def test_new_inodes_each_time_cost_no_listings_and_no_readings_for_ever(
        self, scanned: Scanned, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        numbers = iter(range(10**6, 10**9))
        monkeypatch.setattr(scanned.tree, "inode_for", lambda node: next(numbers))
        monkeypatch.setattr(scanned.tree, "number_for", lambda node: next(numbers))
        scanned.quieten()
        for _ in range(SEVERAL):
            scanned.scan(Scope.RELIST)
        scanned.poll()
        assert set(scanned.tree.listed) == {b""}
        assert scanned.tree.read == []
        scanned.scan(Scope.RELIST)
        assert scanned.tree.read == []

    def test_and_a_changed_file_is_read(
        self, scanned: Scanned, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.test_new_inodes_each_time_cost_no_listings_and_no_readings_for_ever(
            scanned, monkeypatch
        )
        scanned.tree.write(RUNS[0], status="failed")
        scanned.scan(Scope.RELIST)
        assert scanned.published[RUNS[0]][b"status"] == b"failed"

    @pytest.mark.parametrize("number", [0xFFFFFFFF, 0, 1])
    @pytest.mark.parametrize("times", ["differ", "constant"])
    def test_a_live_run_that_was_replaced_is_not_read_through_what_is_held(
        self,
        scanned: Scanned,
        monkeypatch: pytest.MonkeyPatch,
        number: int,
        times: str,
    ) -> None:
        tree, clock = scanned.tree, scanned.time
        if times == "constant":
            monkeypatch.setattr(tree, "times_for", lambda node: (0, 0))
        monkeypatch.setattr(tree, "number_for", lambda node: number)
        scanned.stale_after = 1e9
        beat = "2023-11-14T00:00:00Z"
        for extra in range(SEVERAL):
            tree.write(b"p/g/other%d/r" % extra)
        tree.write(b"p/g/n/live", status="running", last_heartbeat=beat)
        tree.write(b"p/g/n/.fresh", status="running", last_heartbeat=beat, slurm_job_id="2")
        scanned.quieten()
        scanned.poll(2)
        assert b"p/g/n/live" not in tree.looked_at  # it is held
        clock.now += 1
        name = tree.node(b"p/g/n")
        name.below[b"live"] = name.below.pop(b".fresh")
        tree.touch(name)
        scanned.poll(2)
        assert scanned.published[b"p/g/n/live"][b"slurm_job_id"] == b"2"


ERRORS = [errno.EIO, errno.EACCES, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ENOENT]


class TestErrors:
    @pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
    @pytest.mark.parametrize("depth", [1, 2, 3, 4])
    def test_one_path_that_fails_is_told_and_costs_no_other_anything(
        self, scanned: Scanned, depth: int, error: int
    ) -> None:
        scanned.quieten()
        victim = b"/".join(RUNS[0].split(b"/")[:depth])
        scanned.tree.failures[victim] = error
        others = [path for path in RUNS if not path.startswith(victim + b"/") and path != victim]
        for path in others:
            scanned.tree.write(path, status="failed")
        scanned.tree.write(b"q/g/n/new")
        for scope in (Scope.RELIST, Scope.POLL, Scope.RELIST, Scope.POLL):
            scanned.time.now += POLL
            scan = scanned.scan(scope)
            assert gone(scan) == set()
        assert scan.errors >= 1
        problems = dict(scanned.scanner.snapshot.problems())
        assert any(path == victim or path.startswith(victim + b"/") for path in problems)
        assert not any(path in problems for path in others)
        assert {scanned.published[path][b"status"] for path in others} <= {b"failed"}
        assert jobs(scanned) == {*RUNS, b"q/g/n/new"}
        scanned.tree.failures.clear()
        scanned.tree.write(RUNS[0], status="preempted")
        for _ in range(2):
            scanned.time.now += POLL
            scan = scanned.scan(Scope.RELIST)
        assert scan.errors == 0
        assert dict(scanned.scanner.snapshot.problems()) == {}
        assert scanned.published[RUNS[0]][b"status"] == b"preempted"

    @pytest.mark.parametrize("path", [b"p", b"p/g", b"p/g/n"])
    def test_a_listing_that_fails_half_way_adds_what_it_named_and_takes_nothing_away(
        self, scanned: Scanned, path: bytes
    ) -> None:
        scanned.quieten()
        node = scanned.tree.node(path)
        new = below(path)
        scanned.tree.write(new)
        first = node.below.pop(b"new")
        node.below = {b"new": first, **node.below}
        scanned.tree.cuts[path] = 1
        for _ in range(A_RELIST + 2):
            scan = scanned.poll()
            assert gone(scan) == set()
        assert scan.errors == 1
        assert dict(scanned.scanner.snapshot.problems()) == {
            path: "cannot be listed to its end: Input/output error"
        }
        assert jobs(scanned) == {*RUNS, new}
        scanned.tree.cuts.clear()
        assert scanned.poll().errors == 0
        assert dict(scanned.scanner.snapshot.problems()) == {}

    @pytest.mark.parametrize("depth", [1, 2, 3, 4])
    def test_what_is_really_gone_is_no_trouble(self, scanned: Scanned, depth: int) -> None:
        scanned.quieten()
        victim = b"/".join(RUNS[0].split(b"/")[:depth])
        scanned.tree.remove(victim)
        all_gone: set[bytes] = set()
        for _ in range(4):
            scanned.time.now += POLL
            scan = scanned.scan(Scope.RELIST)
            all_gone |= gone(scan)
            assert scan.errors == 0
            assert dict(scanned.scanner.snapshot.problems()) == {}
        assert all_gone == {path for path in RUNS if path.startswith(victim)}
