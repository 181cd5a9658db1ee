"""What the store decides around its fenced writes: which epoch it joins, when generations leap, and when it stops."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from jobcache import SchemaMismatch
from jobcache.models import ChangeKind
from jobcache.schema.keys import SCHEMA_VERSION, Keys
from jobcache_refresher.publish.diff import diff
from jobcache_refresher.publish.lease import Lease
from jobcache_refresher.publish.server import EpochError, FencedError
from jobcache_refresher.publish.store import (
    KEYS_PER_DROP,
    LEAP,
    OPERATIONS_PER_STEP,
    ScanStart,
    Store,
)
from jobcache_refresher.records import Record
from tests.unit.fakes import Call, FakeServer, in_turn

EPOCH = b"1.5"
PATH = b"p/g/n/r"
FIELDS = {b"status": b"completed", b"started_at": b"5.0", b"fingerprint": b"1"}
START = ScanStart(40, 5.0)


class HeldLease:
    value = b"me 7"


class Stored:
    """A store, and the server that it writes to, whose generation grows with every write."""

    def __init__(self, *, generation: int = 40, written: int = 40) -> None:
        self.generation, self.written = generation, written
        self.server = FakeServer(
            TYPE=b"hash",
            HMGET=lambda call: self.meta(),
            stand=self._stand,
            report=lambda call: None,
            complete=lambda call: [*self._write(), b"9.5"],
            clear=lambda call: self._write(),
            apply=self._apply,
            begin=lambda call: [EPOCH, 0],
            SCAN=[b"0", []],
        )
        self.state = b"ready"
        self.schema = b"%d" % SCHEMA_VERSION
        self.epoch = EPOCH
        self.verdicts: dict[bytes, bytes] = {}
        self.store = Store(self.server.server, Keys("n"), cast(Lease, cast(Any, HeldLease())))

    def meta(self) -> list[Any]:
        stands = (self.generation, self.written)
        return [self.schema, self.epoch, *(b"%d" % number for number in stands), self.state]

    def _stand(self, call: Call) -> list[Any]:
        before = [self.generation, self.written, b"5.25"]
        leap = call.args[2]
        if leap:
            self.generation += leap
            self.written = self.generation
        return before

    def _write(self) -> list[Any]:
        before, self.generation = self.written, self.generation + 1
        self.written = self.generation
        return [self.generation, before]

    def _apply(self, call: Call) -> list[Any]:
        return [*self._write(), [self.verdicts.get(path, b"ok") for path in applied(call)]]

    def apply(self, count: int = 1, **options: Any) -> list[Any]:
        found = [(b"p/g/n/%d" % number, FIELDS) for number in range(count)]
        return list(self.store.apply(diff({}, found, ()), START, **options))


def applied(call: Call) -> list[bytes]:
    """The paths of the jobs that a step changes."""
    return [
        path
        for kind, path in zip(call.args, call.args[1:], strict=False)
        if kind in ("put", "del") and isinstance(path, bytes)
    ]


@pytest.fixture
def stored() -> Iterator[Stored]:
    made = Stored()
    made.store.join()
    yield made
    made.store.close()


# Which epoch is joined


@pytest.mark.parametrize(
    ("there", "joined"),
    [
        ({}, EPOCH),
        ({"state": b"degraded"}, EPOCH),
        ({"state": b"building"}, None),
        ({"epoch": None}, None),
        ({"epoch": b"x"}, None),
        ({"schema": b"%d" % (SCHEMA_VERSION - 1)}, None),
        ({"schema": None}, None),
        ({"schema": b"x"}, None),
    ],
)
def test_store_join_takes_a_complete_epoch_of_its_own_schema_only(
    there: dict[str, Any], joined: bytes | None
) -> None:
    stored = Stored()
    for name, value in there.items():
        setattr(stored, name, value)
    assert stored.store.join() == joined
    assert stored.store.has_epoch is (joined is not None)


def test_store_join_of_a_newer_schema_raises() -> None:
    stored = Stored()
    stored.schema = b"%d" % (SCHEMA_VERSION + 1)
    with pytest.raises(SchemaMismatch, match=f"holds schema version {SCHEMA_VERSION + 1}"):
        stored.store.join()


@pytest.mark.parametrize(("kind", "joined"), [(b"none", EPOCH), (b"string", None)])
def test_store_join_of_a_meta_of_a_wrong_type_is_none(kind: bytes, joined: bytes | None) -> None:
    stored = Stored()
    stored.server.replies["TYPE"] = kind
    assert stored.store.join() == joined


@pytest.mark.parametrize(
    ("generation", "written", "epoch", "is_joined"),
    [
        (41, 41, EPOCH, True),
        (50, 50, EPOCH, True),
        (40, 41, EPOCH, False),  # the server went back
        (41, 40, EPOCH, False),
        (3, 3, b"2.5", True),
    ],
)
def test_store_join_again_refuses_a_server_that_went_back_within_the_epoch(
    stored: Stored, generation: int, written: int, epoch: bytes, is_joined: bool
) -> None:
    stored.apply()
    stored.store.leave()
    assert not stored.store.has_epoch
    stored.generation, stored.written, stored.epoch = generation, written, epoch
    assert (stored.store.join() is not None) is is_joined


# Leaps


def test_store_first_scan_after_joining_leaps_and_the_next_does_not(stored: Stored) -> None:
    assert stored.store.start_scan() == ScanStart(40 + LEAP, 5.25)
    assert stored.store.start_scan() == ScanStart(40 + LEAP, 5.25)
    assert [call.args[2] for call in stored.server.called("stand")] == [LEAP, 0]
    stored.apply()  # what was read before the leap is no sign of a server that went back


def test_store_write_to_a_server_that_lost_the_leap_loses_the_epoch(stored: Stored) -> None:
    stored.store.start_scan()
    stored.written = 40
    with pytest.raises(EpochError, match="went back"):
        stored.apply()


def test_store_scan_after_a_reply_was_lost_leaps(stored: Stored) -> None:
    stored.store.start_scan()
    stored.server.replies["report"] = RedisConnectionError("reset")
    with pytest.raises(RedisConnectionError):
        stored.store.report({})
    stored.store.start_scan()
    assert [call.args[2] for call in stored.server.called("stand")] == [LEAP, LEAP]


@pytest.mark.parametrize("error", [FencedError("lost"), EpochError("lost")])
def test_store_scan_after_a_refusal_does_not_leap(stored: Stored, error: Exception) -> None:
    stored.store.start_scan()
    stored.server.replies["report"] = error
    with pytest.raises(type(error)):
        stored.store.report({})
    stored.store.start_scan()
    assert [call.args[2] for call in stored.server.called("stand")] == [LEAP, 0]


def test_store_scan_of_an_epoch_that_it_began_does_not_leap() -> None:
    stored = Stored(generation=0, written=0)
    stored.store.begin({"mode": "polling"})
    assert stored.store.start_scan().generation == 0
    stored.store.close()


# Servers that went back


@pytest.mark.parametrize(("generation", "written"), [(39, 40), (40, 39)])
def test_store_scan_on_a_server_that_went_back_loses_the_epoch(
    stored: Stored, generation: int, written: int
) -> None:
    stored.generation, stored.written = generation, written
    with pytest.raises(EpochError, match=f"went back to generation {generation}"):
        stored.store.start_scan()
    with pytest.raises(EpochError, match="no epoch was begun"):
        stored.store.report({})


def test_store_write_to_a_server_that_went_back_loses_the_epoch(stored: Stored) -> None:
    stored.apply()
    stored.generation = stored.written = 39
    with pytest.raises(EpochError, match="went back to generation 40"):
        stored.apply()
    assert not stored.store.has_epoch


def test_store_without_an_epoch_asks_nothing() -> None:
    stored = Stored()
    with pytest.raises(EpochError, match="no epoch"):
        stored.store.start_scan()
    assert stored.server.calls == []


# Steps


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (0, []),
        (1, [1]),
        (OPERATIONS_PER_STEP, [OPERATIONS_PER_STEP]),
        (2 * OPERATIONS_PER_STEP + 1, [OPERATIONS_PER_STEP, OPERATIONS_PER_STEP, 1]),
    ],
)
def test_store_apply_writes_in_steps_and_tells_of_each_job_in_order(
    stored: Stored, count: int, sizes: list[int]
) -> None:
    done = stored.apply(count)
    assert [len(applied(call)) for call in stored.server.called("apply")] == sizes
    assert [one.operation.path for one in done] == [b"p/g/n/%d" % n for n in range(count)]
    revisions = [b"%d" % (41 + step) for step, size in enumerate(sizes) for _ in range(size)]
    assert [one.revision for one in done] == revisions


def test_store_apply_gives_each_job_its_verdict(stored: Stored) -> None:
    stored.verdicts = {b"p/g/n/1": b"changed", b"p/g/n/2": b"tombstone"}
    assert [one.verdict for one in stored.apply(3)] == ["ok", "changed", "tombstone"]


def test_store_apply_shows_lease_epoch_and_the_scans_generation(stored: Stored) -> None:
    stored.apply()
    (call,) = stored.server.called("apply")
    assert call.args[:3] == (b"me 7", EPOCH, START.generation)


@pytest.mark.parametrize(("announce", "told"), [(True, "added"), (False, "")])
def test_store_apply_announces_what_readers_can_see_unless_told_not_to(
    stored: Stored, announce: bool, told: str
) -> None:
    stored.apply(announce=announce)
    args = stored.server.called("apply")[0].args
    assert args[args.index("put") + 3] == told


def test_store_apply_does_not_announce_what_readers_cannot_see(stored: Stored) -> None:
    records = {PATH: Record(FIELDS, b"5")}
    found = [(PATH, {**FIELDS, b"fingerprint": b"2"})]
    (done,) = stored.store.apply(diff(records, found, ()), START)
    args = stored.server.called("apply")[0].args
    assert args[args.index("put") + 2 : args.index("put") + 4] == (b"5", "")
    assert done.operation.kind is ChangeKind.MODIFIED


def test_store_apply_that_is_left_waits_for_the_step_under_way(stored: Stored) -> None:
    apply = stored.server.replies["apply"]

    def apply_slowly(call: Call) -> Any:
        time.sleep(0.05)
        return apply(call)

    stored.server.replies["apply"] = apply_slowly
    changes = ((b"p/g/n/%d" % n, FIELDS) for n in range(3 * OPERATIONS_PER_STEP))
    done = stored.store.apply(diff({}, changes, ()), START)
    next(done)
    done.close()  # type: ignore[attr-defined]
    assert len(stored.server.called("apply")) == 2
    assert stored.generation == 42, "both are over"


def test_store_apply_error_of_a_step_is_raised_and_no_further_step_is_sent(
    stored: Stored,
) -> None:
    stored.server.replies["apply"] = FencedError("lost")
    with pytest.raises(FencedError):
        stored.apply(5 * OPERATIONS_PER_STEP)
    assert len(stored.server.called("apply")) <= 2


# A new epoch


def test_store_begin_drops_what_was_there_but_for_the_keys_of_the_namespace_itself() -> None:
    keys = Keys("n")
    kept = [keys.lease, keys.meta, keys.changes, keys.requests, keys.release]
    gone = [keys.jobs, keys.running, keys.tombstones, keys.full(b"job:p/g/n/r")]
    stored = Stored(generation=0, written=0)
    stored.server.replies["SCAN"] = in_turn(
        [b"5", [*kept, *gone[:2]]], [b"6", kept], [b"0", gone[2:]]
    )
    stored.store.begin({"mode": "polling"})
    begun = stored.server.called("begin")[0]
    assert begun.args == (b"me 7", "schema", SCHEMA_VERSION, "mode", "polling")
    assert [call.args[2:] for call in stored.server.called("clear")] == [
        tuple(gone[:2]),
        tuple(gone[2:]),
    ]
    assert {call.args[-1] for call in stored.server.called("SCAN")} == {KEYS_PER_DROP}
    assert [call.args[0] for call in stored.server.called("SCAN")] == [b"0", b"5", b"6"]


def test_store_begin_forgets_the_generations_of_the_epoch_before(stored: Stored) -> None:
    stored.generation = stored.written = 0
    stored.server.replies["begin"] = [b"2.5", 0]
    stored.store.begin({})
    assert stored.store.complete(ScanStart(0, 5.0), 300.0, {}) == 9.5
    assert stored.server.called("complete")[0].args[:4] == (b"me 7", b"2.5", 0, "300.0")


# Deletions for clients


def hash_of(revision: bytes) -> list[bytes]:
    return [b"rev", revision, *(part for field in FIELDS.items() for part in field)]


def test_store_delete_reads_the_job_again_until_nobody_wrote_it_meanwhile(stored: Stored) -> None:
    outcomes = iter([0, 0, 1])
    stored.server.replies["HGETALL"] = in_turn(hash_of(b"5"), hash_of(b"6"), hash_of(b"7"))
    stored.server.replies["delete"] = lambda call: [*stored._write(), next(outcomes)]
    stored.store.delete(PATH, b"20-0")
    calls = stored.server.called("delete")
    assert [call.args[2:5] for call in calls] == [
        (b"20-0", PATH, revision) for revision in (b"5", b"6", b"7")
    ]
    assert b"project:p" in calls[0].args, "its index entries go with it"


@pytest.mark.parametrize(
    "there", [[], [b"rev", b"5", b"status", b"x", b"started_at", b"no number"]]
)
def test_store_delete_of_a_job_that_is_not_there_removes_no_entries(
    stored: Stored, there: list[bytes]
) -> None:
    stored.server.replies["HGETALL"] = there
    stored.server.replies["delete"] = lambda call: [*stored._write(), 1]
    stored.store.delete(PATH, b"20-0")
    assert stored.server.called("delete")[0].args[4] == b""


def test_store_delete_of_a_hash_that_somebody_else_wrote_loses_the_epoch(stored: Stored) -> None:
    stored.server.replies["HGETALL"] = [b"other", b"field"]
    stored.server.replies["delete"] = lambda call: [*stored._write(), 0]
    with pytest.raises(EpochError, match="the hash of 'p/g/n/r' is none that was written"):
        stored.store.delete(PATH, b"20-0")


@pytest.mark.parametrize(
    ("raw", "number"), [(None, None), (b"1.5", 1.5), (b"x", None), (b"inf", None)]
)
def test_store_number_of_a_field_that_holds_none_is_none(
    stored: Stored, raw: bytes | None, number: float | None
) -> None:
    stored.server.replies["HGET"] = raw
    assert stored.store.number("held") == number
    assert stored.store.field("held") == raw
