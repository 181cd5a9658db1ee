"""Which runs are looked at and read, by a fresh scanner and by one that took over from another."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from jobcache.schema.job import FINGERPRINT
from jobcache_refresher.records import Record
from jobcache_refresher.scan.identity import decode
from jobcache_refresher.scan.recalled import RecalledTree
from jobcache_refresher.scan.rules import Rules
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.settings import Settings
from tests.unit.scripted import (
    POLL,
    RELIST,
    RESYNC,
    SECOND,
    SETTLE,
    HandClock,
    Node,
    Scanned,
    ScriptedTree,
    gone,
)

RUN = b"p/g/n/r1"
A_RELIST, A_RESYNC = int(RELIST / POLL), int(RESYNC / POLL)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def tree(clock: HandClock) -> ScriptedTree:
    made = ScriptedTree(clock)
    made.write(RUN)
    made.write(b"q/g/n/r1")
    return made


@pytest.fixture
def scanned(tree: ScriptedTree, clock: HandClock) -> Iterator[Scanned]:
    made = Scanned(tree, clock)
    made.quieten()
    yield made
    made.scanner.close()


def taken_over(scanned: Scanned) -> Scanned:
    """Another scanner, which knows what was published."""
    recalled = RecalledTree(scanned.time.clock, Rules.of(Settings(status_dir="/status")).tag)
    for path, fields in scanned.published.items():
        recalled.move(path, Record(fields, b"1"))
    successor = Scanned(scanned.tree, scanned.time)
    successor.published.update(scanned.published)
    successor.scanner.reset(recalled.take())
    return successor


def file_of(scanned: Scanned, path: bytes) -> Node:
    return scanned.tree.node(path + b"/metadata.json")


def wait_long(scanned: Scanned) -> None:
    """A day without news, so that nothing is looked at often."""
    for _ in range(24):
        scanned.time.now += 3600
        scanned.scan()
    scanned.scan(Scope.RELIST)
    scanned.poll(A_RELIST)


class TestWaiting:
    def waits(self, scanned: Scanned, kind: str) -> None:
        """A run without a file, or with one that is no JSON, for a day."""
        if kind == "no file":
            scanned.tree.make(b"q/g/n/late")
        else:
            scanned.tree.write(b"q/g/n/late")
            file_of(scanned, b"q/g/n/late").raw = b"" if kind == "empty" else b"{"
        scanned.scan(Scope.RELIST)
        wait_long(scanned)

    @pytest.mark.parametrize("kind", ["no file", "empty", "cut"])
    def test_in_a_quiet_group_the_file_is_found_within_a_relist(
        self, scanned: Scanned, kind: str
    ) -> None:
        self.waits(scanned, kind)
        scanned.tree.write(b"q/g/n/late")
        assert scanned.found_after(b"q/g/n/late", A_RESYNC) in range(1, A_RELIST + 1)

    @pytest.mark.parametrize("kind", ["no file", "empty", "cut"])
    def test_in_a_busy_group_it_is_found_by_the_next_poll(
        self, scanned: Scanned, kind: str
    ) -> None:
        self.waits(scanned, kind)
        scanned.tree.write(b"q/g/busy/r")
        scanned.scan(Scope.RELIST)
        scanned.poll()
        scanned.tree.write(b"q/g/n/late")
        assert scanned.found_after(b"q/g/n/late", A_RESYNC) == 1

    def test_a_file_that_was_good_once_is_found_when_it_is_right_again(
        self, scanned: Scanned
    ) -> None:
        file = file_of(scanned, RUN)
        good, file.raw = file.raw, b""
        scanned.tree.touch(file)
        scanned.scan(Scope.RELIST)
        wait_long(scanned)
        file.raw = good
        scanned.tree.touch(file)
        for _ in range(A_RELIST):
            scanned.poll()
        assert scanned.scanner.snapshot.runs[RUN].trouble is None

    def test_at_rest_it_costs_one_look_in_a_relist(self, scanned: Scanned) -> None:
        self.waits(scanned, "no file")
        looks = 0
        for _ in range(10 * A_RELIST):
            scanned.poll()
            looks += scanned.tree.looked_at.count(b"q/g/n/late")
        assert looks <= 16


class TestTroubleThatListingsContradict:
    def test_a_run_directory_that_is_listed_and_cannot_be_found(self, scanned: Scanned) -> None:
        scanned.tree.failures[RUN] = errno.ENOENT
        for _ in range(3):
            scanned.time.now += POLL
            scan = scanned.scan(Scope.RELIST)
            assert gone(scan) == set()
        assert dict(scanned.scanner.snapshot.problems()) == {
            RUN: "its directory cannot be found, though a listing holds it"
        }
        assert scan.errors == 1
        scanned.tree.failures.clear()
        assert scanned.poll(A_RELIST).errors == 0

    def test_a_file_that_is_listed_and_cannot_be_found(self, scanned: Scanned) -> None:
        scanned.tree.failures[RUN + b"/metadata.json"] = errno.ENOENT
        for _ in range(3):
            scanned.time.now += POLL
            scan = scanned.scan(Scope.RELIST)
            assert gone(scan) == set()
        assert scan.errors == 1
        scanned.tree.failures.clear()
        assert scanned.poll(A_RELIST).errors == 0


class TestTimesOfFiles:
    def test_a_future_mtime_costs_no_look_in_every_poll(self, scanned: Scanned) -> None:
        scanned.tree.offset = 365 * 86400.0
        scanned.tree.write(RUN, status="failed")
        scanned.scan(Scope.RELIST)
        scanned.poll()
        scanned.time.now += 3600
        scanned.scan(Scope.RELIST)
        looks = 0
        for _ in range(A_RELIST):
            scanned.poll()
            looks += scanned.tree.looked_at.count(RUN)
        assert looks <= 1

    @pytest.mark.parametrize(
        "ahead", [0.0, 3600.0, -3600.0], ids=["equal clocks", "ahead", "behind"]
    )
    @pytest.mark.parametrize("kept", [False, True], ids=["", "mtime set back"])
    def test_a_second_write_within_a_tick_is_read(
        self, clock: HandClock, tree: ScriptedTree, ahead: float, kept: bool
    ) -> None:
        """The size is the same, and so is every time."""
        scanned = Scanned(tree, clock, poll_interval=0.5)
        scanned.stale_after = 1e9
        beat = "2023-11-14T00:00:00Z"
        tree.write(RUN, status="running", last_heartbeat=beat)
        scanned.quieten()
        tree.offset, tree.tick = ahead, SECOND
        clock.now = float(int(clock.now) + 5) + 0.1
        scanned.scan()
        clock.now += 0.1

        def write(number: str) -> None:
            tree.write(RUN, status="running", last_heartbeat=beat, slurm_job_id=number)
            file = file_of(scanned, RUN)
            if kept:
                file.times = (SECOND, file.times[1])

        write("2")
        scanned.scan()
        assert scanned.published[RUN][b"slurm_job_id"] == b"2"
        write("3")
        for _ in range(10):
            clock.now += 0.5
            scanned.scan()
        assert scanned.published[RUN][b"slurm_job_id"] == b"3"
        scanned.scan()
        assert scanned.tree.read == []

    def test_a_write_whose_mtime_was_set_back_is_racy(self, scanned: Scanned) -> None:
        scanned.tree.write(RUN, status="failed")
        file = file_of(scanned, RUN)
        file.times = (SECOND, file.times[1])
        scanned.scan(Scope.HINTS, [RUN])
        assert decode(scanned.published[RUN][FINGERPRINT]).racy


class TestTakeover:
    @pytest.mark.parametrize("settled", [False, True])
    def test_what_was_racy_when_it_was_read_is_read_again(
        self, scanned: Scanned, settled: bool
    ) -> None:
        scanned.tree.write(RUN, status="failed")
        scanned.scan(Scope.RELIST)
        if settled:
            scanned.time.now += SETTLE + 1
            scanned.scan()
        file = file_of(scanned, RUN)
        assert decode(scanned.published[RUN][FINGERPRINT]).racy is not settled
        assert file.raw is not None
        file.raw = file.raw.replace(b'"failed"', b'"weird!"')
        scanned.time.now += 3600
        successor = taken_over(scanned)
        successor.scan(Scope.RELIST)
        assert (RUN in successor.tree.read) is not settled
        assert b"q/g/n/r1" not in successor.tree.read

    def test_it_is_published_as_settled_then(self, scanned: Scanned) -> None:
        scanned.tree.write(RUN, status="failed")
        scanned.scan(Scope.RELIST)
        scanned.time.now += 3600
        successor = taken_over(scanned)
        successor.scan(Scope.RELIST)
        assert not decode(successor.published[RUN][FINGERPRINT]).racy
        assert {**successor.published[RUN], FINGERPRINT: b""} == {
            **scanned.published[RUN],
            FINGERPRINT: b"",
        }
        assert taken_over(successor).scan(Scope.RELIST).read == []

    def test_a_live_run_that_settled_is_not_published_for_that(self, scanned: Scanned) -> None:
        scanned.stale_after = 1e9
        scanned.tree.write(RUN, status="running", last_heartbeat="2023-11-14T00:00:00Z")
        scanned.scan(Scope.RELIST)
        first = dict(scanned.published[RUN])
        scanned.time.now += SETTLE + 1
        scanned.scan()
        assert scanned.tree.read == [RUN]
        assert scanned.published[RUN] == first
        scanned.poll()
        assert scanned.tree.read == []

    @pytest.mark.parametrize("sign", ["inode", "ctime"])
    def test_a_file_that_was_swapped_meanwhile_is_read(self, scanned: Scanned, sign: str) -> None:
        """With ``cp -p``, so that size and mtime are the same."""
        file = file_of(scanned, RUN)
        assert file.raw is not None
        file.raw = file.raw.replace(b'"completed"', b'"preempted"')
        if sign == "inode":
            file.inode += 1000
        else:
            file.times = (file.times[0], file.times[1] + 1)
        successor = taken_over(scanned)
        successor.scan(Scope.RELIST)
        assert successor.tree.read == [RUN]
        assert successor.published[RUN][b"status"] == b"preempted"
