"""A standby's copy of what is published: read once, kept up by the change feed, and compared whole at a takeover."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import pytest

from jobcache.schema.keys import SCHEMA_VERSION, Keys
from jobcache.schema.scripts import Script
from jobcache_refresher.clock import Clock
from jobcache_refresher.publish.follower import JOBS_PER_READ, Follower, record_of
from jobcache_refresher.publish.server import Server
from jobcache_refresher.records import Record
from tests.unit.fakes import SetClock

PER_STEP = 3
FOREVER = 1e9


class Published:
    """What another refresher published, and how often it was read."""

    def __init__(self) -> None:
        self.epoch = b"1.5"
        self.schema = b"%d" % SCHEMA_VERSION
        self.state = b"ready"
        self.jobs: dict[bytes, dict[bytes, bytes]] = {}
        self.feed: list[tuple[bytes, list[bytes]]] = []
        self.read: list[bytes] = []
        """Jobs that were read whole."""
        self.compared = 0
        """Steps that told revisions."""
        self.on_call: Callable[[str], None] = lambda name: None

    def put(self, path: bytes, revision: bytes, **fields: bytes) -> None:
        told = {name.encode(): value for name, value in fields.items()}
        self.jobs[path] = {b"rev": revision, b"status": b"failed", b"started_at": b"5.0", **told}
        self.announce(path, b"modified")

    def delete(self, path: bytes) -> None:
        del self.jobs[path]
        self.announce(path, b"deleted")

    def announce(self, path: bytes, change: bytes) -> None:
        self.feed.append((b"%d-0" % (len(self.feed) + 1), [b"change", change, b"id", path]))

    def ask(self, *command: Any) -> Any:
        self.on_call(command[0].decode())
        match command[0]:
            case b"HMGET":
                return [self.schema, self.epoch, self.state]
            case b"XREVRANGE":
                return self.feed[-1:]
            case b"XRANGE":
                first, size = command[2], command[5]
                number = 0 if first == b"-" else int(first.split(b"-")[0])
                later = [one for one in self.feed if int(one[0].split(b"-")[0]) >= number]
                return later[:size]
        raise AssertionError(command)

    def ask_all(self, commands: Any) -> list[Any]:
        self.on_call("HGETALL")
        paths = [command[1].split(b"job:")[1] for command in commands[:-1]]
        self.read += paths
        return [
            *(
                [part for field in self.jobs.get(path, {}).items() for part in field]
                for path in paths
            ),
            self.epoch,
        ]

    def run(self, script: Script, keys: Any, args: Any) -> Any:
        self.on_call(script.name)
        assert script.name == "revisions"
        self.compared += 1
        first, last, _ = args
        some = sorted(self.jobs)[first : last + 1]
        return [self.epoch, *(part for path in some for part in (path, self.jobs[path][b"rev"]))]

    def stream(self, script: Script, keys: Any, steps: Iterable[Any]) -> Iterator[Any]:
        assert script.name == "load"
        for first, last, _, *names in steps:
            self.on_call("load")
            some = sorted(self.jobs)[first : last + 1]
            self.read += some
            yield [
                self.epoch,
                some,
                [[self.jobs[path].get(name) for name in names] for path in some],
            ]


class Heard:
    """A listener that notes what it is told."""

    def __init__(self) -> None:
        self.known: dict[bytes, bytes] = {}
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1
        self.known = {}

    def move(self, path: bytes, record: Record | None) -> None:
        if record is None:
            del self.known[path]
        else:
            self.known[path] = record.revision


@pytest.fixture
def there() -> Published:
    made = Published()
    for number in range(2 * PER_STEP + 1):
        made.put(b"p/g/n/%d" % number, b"5")
    return made


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def follower(there: Published, heard: Heard) -> Follower:
    return Follower(cast(Server, cast(Any, there)), Keys("n"), heard, Clock(), PER_STEP)


def revisions(there: Published) -> dict[bytes, bytes]:
    return {path: fields[b"rev"] for path, fields in there.jobs.items()}


@pytest.mark.parametrize(
    ("name", "value"),
    [("state", b"building"), ("schema", b"99"), ("schema", None), ("epoch", None)],
)
def test_follower_of_a_cache_that_it_cannot_use_reads_nothing(
    there: Published, follower: Follower, name: str, value: bytes | None
) -> None:
    setattr(there, name, value)
    follower.follow(FOREVER)
    assert there.read == []
    assert not follower.is_whole


def test_follower_reads_every_job_once_and_then_what_the_feed_tells(
    there: Published, heard: Heard, follower: Follower
) -> None:
    follower.follow(FOREVER)
    assert follower.is_whole
    assert heard.known == revisions(there)
    assert sorted(there.read) == sorted(there.jobs)

    there.read.clear()
    there.put(b"p/g/n/0", b"6")
    there.put(b"p/g/n/new", b"7")
    there.delete(b"p/g/n/1")
    for _ in range(2):
        follower.follow(FOREVER)
    assert heard.known == revisions(there)
    assert there.read == [b"p/g/n/0", b"p/g/n/new", b"p/g/n/1"]


def test_follower_does_no_more_than_it_has_time_for(there: Published, heard: Heard) -> None:
    clock = SetClock()
    follower = Follower(cast(Server, cast(Any, there)), Keys("n"), heard, clock.clock, PER_STEP)

    def take_a_second(name: str) -> None:
        clock.now += name == "revisions"

    there.on_call = take_a_second
    follower.follow(1.5)
    before, compared = follower.is_whole, there.compared
    follower.follow(FOREVER)
    assert (before, compared, follower.is_whole) == (False, 2, True)
    assert sorted(there.read) == sorted(there.jobs), "it goes on where it was"


@pytest.mark.parametrize("how", ["trimmed", "begun anew"])
def test_follower_whose_place_in_the_feed_is_gone_reads_everything_again(
    there: Published, heard: Heard, follower: Follower, how: str
) -> None:
    follower.follow(FOREVER)
    there.read.clear()
    there.put(b"p/g/n/0", b"6")
    there.feed = there.feed[-1:] if how == "trimmed" else []
    follower.follow(FOREVER)
    before = follower.is_whole
    follower.follow(FOREVER)
    assert (before, follower.is_whole) == (False, True)
    assert heard.known == revisions(there)
    assert sorted(there.read) == sorted(there.jobs)


def test_follower_of_a_new_epoch_begins_anew(
    there: Published, heard: Heard, follower: Follower
) -> None:
    follower.follow(FOREVER)
    there.epoch = b"2.5"
    there.delete(b"p/g/n/0")
    follower.follow(FOREVER)
    assert heard.begun == 2
    assert heard.known == revisions(there)


@pytest.mark.parametrize("moment", ["revisions", "HGETALL"])
def test_follower_epoch_that_ends_while_it_is_read_is_believed_in_nothing(
    there: Published, follower: Follower, moment: str
) -> None:
    def begin_anew(name: str) -> None:
        if name == moment:
            there.epoch = b"2.5"

    there.on_call = begin_anew
    follower.follow(FOREVER)
    assert not follower.is_whole
    assert follower.take() == {}


def test_follower_epoch_that_ends_while_the_feed_is_read_is_believed_in_nothing(
    there: Published, follower: Follower
) -> None:
    follower.follow(FOREVER)
    there.put(b"p/g/n/0", b"6")

    def begin_anew(name: str) -> None:
        if name == "HGETALL":
            there.epoch = b"2.5"

    there.on_call = begin_anew
    follower.follow(FOREVER)
    assert not follower.is_whole
    assert follower.take() == {}


def test_complete_at_a_takeover_reads_only_what_differs(
    there: Published, heard: Heard, follower: Follower
) -> None:
    follower.follow(FOREVER)
    there.read.clear()
    there.put(b"p/g/n/0", b"6")
    there.put(b"p/g/n/new", b"7")
    there.delete(b"p/g/n/1")
    records = follower.complete(b"1.5")
    assert records is not None
    assert {path: one.revision for path, one in records.items()} == revisions(there) == heard.known
    assert sorted(there.read) == [b"p/g/n/0", b"p/g/n/new"]


@pytest.mark.parametrize(
    ("jobs", "steps"), [(0, 1), (1, 1), (JOBS_PER_READ, 2), (JOBS_PER_READ + 1, 2)]
)
def test_complete_without_having_followed_reads_everything(
    jobs: int, steps: int, heard: Heard
) -> None:
    there = Published()
    calls: list[str] = []
    there.on_call = calls.append
    for number in range(jobs):
        there.put(b"p/g/n/%05d" % number, b"5")
    follower = Follower(cast(Server, cast(Any, there)), Keys("n"), heard, Clock())
    records = follower.complete(b"1.5")
    assert records is not None
    assert {path: one.revision for path, one in records.items()} == revisions(there)
    assert (len(there.read), calls) == (jobs, ["load"] * steps)


@pytest.mark.parametrize("follows", [True, False])
def test_complete_of_an_epoch_that_is_not_there_any_more_is_none(
    there: Published, follower: Follower, follows: bool
) -> None:
    if follows:
        follower.follow(FOREVER)
    there.epoch = b"2.5"
    assert follower.complete(b"1.5") is None
    assert follower.take() == {}


def test_complete_of_another_epoch_than_was_followed_forgets_that(
    there: Published, heard: Heard, follower: Follower
) -> None:
    follower.follow(FOREVER)
    there.epoch = b"2.5"
    there.jobs = {}
    there.put(b"p/g/n/new", b"5")
    records = follower.complete(b"2.5")
    assert records is not None
    assert list(records) == [b"p/g/n/new"]
    assert heard.known == revisions(there)


def test_take_hands_over_and_begins_anew(there: Published, follower: Follower) -> None:
    follower.follow(FOREVER)
    taken = follower.take()
    assert taken.keys() == there.jobs.keys()
    assert (follower.take(), follower.is_whole) == ({}, False)


@pytest.mark.parametrize(
    ("fields", "revision"),
    [
        ({}, None),
        ({b"rev": b"5", b"status": b"failed"}, b"5"),
        ({b"status": b"failed"}, None),
        ({b"rev": b"5"}, None),
        ({b"rev": b"5", b"status": b"no status"}, None),
        ({b"rev": b"5", b"status": b"failed", b"started_at": b"x"}, None),
        ({b"rev": b"5", b"status": b"failed", b"log_scanned": b"x"}, None),
    ],
)
def test_record_of_a_hash_that_somebody_else_wrote_is_none(
    fields: dict[bytes, bytes], revision: bytes | None
) -> None:
    record = record_of([part for field in fields.items() for part in field])
    assert (record and record.revision) == revision


def test_complete_leaves_out_hashes_that_somebody_else_wrote(
    there: Published, follower: Follower
) -> None:
    there.put(b"p/g/n/0", b"5", started_at=b"x")
    records = follower.complete(b"1.5")
    assert records is not None
    assert there.jobs.keys() - records.keys() == {b"p/g/n/0"}


def test_follower_is_quick_where_nothing_happened(there: Published, follower: Follower) -> None:
    follower.follow(FOREVER)
    began = time.monotonic()
    calls: list[str] = []
    there.on_call = calls.append
    follower.follow(FOREVER)
    assert calls == ["HMGET", "XRANGE"]
    assert time.monotonic() - began < 5
