"""What anybody with a client's rights can write, and worse: the refresher makes it right, and readers go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from jobcache import CacheState, Change, ChangeKind, JobCache, JobCacheError, SchemaMismatch
from jobcache.schema.keys import SCHEMA_VERSION
from jobcache_refresher import Refresher
from jobcache_refresher.scan.scope import Scope
from tests.contract.compare import assert_agrees
from tests.faults.oracle.indexes import index_faults
from tests.faults.oracle.snapshot import take_snapshot
from tests.harness import Rig, StepRefresher
from tests.programs import wait_for
from tests.servers import RunningServer
from tests.trees import Names, delete_run, write_run

RUNS: list[Names] = [("p", "g", "n", f"r{number}") for number in range(6)]
NEW: Names = ("p", "g", "n", "new")
LARGEST = 2**64 - 1
HUGE = str(2**62)
Command = tuple[str | bytes, ...]
FEW_POLLS = 3

BY_A_CLIENT: list[Command] = [
    ("HINCRBY", "meta", "schema", "1"),
    ("HINCRBY", "meta", "schema", "-1"),
    ("HINCRBY", "meta", "generation", str(2**63 - 10**6)),
    ("HINCRBY", "meta", "generation", str(2**53)),
    ("HINCRBY", "meta", "generation", str(-(10**12))),
    ("HINCRBY", "meta", "written", HUGE),
    ("HINCRBY", "meta", "written", "-" + HUGE),
    ("HINCRBY", "meta", "fence", HUGE),
    ("HINCRBY", "meta", "active_chips", HUGE),
    ("HINCRBY", "meta", "active_chips", "-" + HUGE),
    ("HINCRBY", "meta", "jobs", HUGE),
    ("HINCRBY", "meta", "held", "7"),
    ("HINCRBY", "meta", "reason", "7"),
    ("HINCRBY", "meta", "request_position", "7"),
    ("HINCRBY", "meta", "poll_interval", HUGE),
    ("ZADD", "tombstones", "inf", "p/g/n/r0", "inf", "p/g/n/new"),
    ("ZADD", "tombstones", "1e15", "p/g/n/r0", "1e15", "p/g/n/new"),
    ("ZADD", "tombstones", "-inf", "p/g/n/new"),
    ("XADD", "requests", "*", "x", "y"),
    ("XADD", "requests", "*", "request", "delete", "id", b"\xff/a/b"),
    ("XADD", "requests", "*", "request", b"\xff", "id", b"\xff"),
    ("XADD", "requests", "*", "request", "delete"),
    ("XADD", "changes", "*", "change", "nonsense", "id", "p/g/n/r0"),
    *(
        ("XADD", stream, *cap, f"{ms}-{number}", "change", "added", "id", "p/g/n/r1")
        for stream in ("changes", "requests")
        for cap in ((), ("MAXLEN", "0"))
        for ms, number in (
            (LARGEST, LARGEST),
            (LARGEST, LARGEST - 1),
            (LARGEST, 1),
            (99999999999999, 1),
        )
    ),
]
"""Named without their prefix."""
NUMBERS = ("generation", "written", "active_chips", "completed_at", "stale_after", "jobs", "held", "fence", "beat_at",
    "poll_interval", "request_position", "schema", "epoch")  # fmt: skip
BY_ANYBODY: list[Command] = [
    *(
        ("HSET", "meta", name, junk)
        for name in NUMBERS
        for junk in ("junk", b"\xff", "nan", "1e400", "007")
        if (name, junk) != ("schema", "007")  # that is a newer one
    ),
    *(("HDEL", "meta", name) for name in (*NUMBERS, "state")),
    *(
        ("HSET", "meta", "request_position", text)
        for text in ("1-2-3", "-", f"{LARGEST}-{LARGEST}")
    ),
    ("HSET", "meta", "request_position", "99999999999999999999999-1"),
    *(
        command
        for key in ("tombstones", "changes", "requests", "release")
        for command in (("SET", key, "x"), ("SADD", key, "x"))
    ),
    ("DEL", "requests"),
    ("DEL", "changes"),
]


def do(redis: Redis, rig: Rig, command: Command) -> None:
    verb, key, *rest = command
    full = rig.refresher.keys.full(key.encode() if isinstance(key, str) else key)
    if verb in {"SET", "SADD"}:
        redis.delete(full)
    redis.execute_command(verb, full, *rest)


def ask_everything(cache: JobCache, position: str | None) -> None:
    """Whatever a reader may be told, an error is one of the library's own."""
    calls: list[Callable[[], Any]] = [
        cache.freshness,
        cache.meta,
        cache.counts,
        cache.list_all_jobs,
        cache.get_running_jobs,
        cache.list_projects,
        lambda: cache.get_recent_jobs(24),
        lambda: cache.get_job(*RUNS[0]),
        lambda: list(cache.changes(wait=0)),
        lambda: list(cache.changes(position, wait=0)) if position else None,
        lambda: cache.refresh(wait=True, timeout=0),
    ]
    for call in calls:
        with suppress(JobCacheError):
            call()


@pytest.fixture
def jobs(status_dir: Path) -> None:
    for number, names in enumerate(RUNS):
        write_run(status_dir, names, status=("running", "failed")[number % 2])


def some_position(rig: Rig, redis: Redis) -> str:
    meta, changes = rig.refresher.keys.meta, rig.refresher.keys.changes
    newest: Any = redis.xrevrange(changes, count=1)
    epoch: Any = redis.hget(meta, "epoch")
    return f"{epoch.decode()}/{newest[0][0].decode()}"


def assert_heals(rig: Rig, redis: Redis, position: str) -> None:
    """A few polls later everything is as if nothing had been, and all that a client may do works."""
    for _ in range(FEW_POLLS):
        rig.refresh(Scope.POLL)
        ask_everything(rig.cache, position)
    write_run(rig.status_dir, NEW, status="running")
    rig.settle()
    assert_agrees(rig)
    assert rig.cache.freshness().state is CacheState.READY
    assert rig.cache.meta()["schema"] == str(SCHEMA_VERSION)
    assert list(rig.cache.changes(position, wait=0)), (
        "a reader learns of the change, or is told to look"
    )
    position = some_position(rig, redis)
    assert rig.cache.delete_job(*RUNS[1])
    delete_run(rig.status_dir, RUNS[1])
    (change, *_) = rig.cache.changes(position, wait=0)
    assert change.kind in {ChangeKind.DELETED, ChangeKind.RESYNC}
    rig.cache.invalidate(*RUNS[2])
    rig.refresher.outwait_quarantines()
    rig.settle()
    assert_agrees(rig)
    assert not index_faults(take_snapshot(redis, rig.refresher.keys))


@pytest.mark.parametrize("command", [*BY_A_CLIENT, *BY_ANYBODY], ids=lambda words: repr(words)[:90])
def test_poisoned_cache_is_healed_by_its_leader(whole: Rig, redis: Redis, command: Command) -> None:
    position = some_position(whole, redis)
    do(redis, whole, command)
    ask_everything(whole.cache, position)
    assert_heals(whole, redis, position)


@pytest.mark.parametrize(
    "command",
    [one for one in (*BY_A_CLIENT, *BY_ANYBODY) if one[:4] != ("HINCRBY", "meta", "schema", "1")],
    ids=lambda words: repr(words)[:90],
)
def test_poisoned_cache_is_healed_by_another_refresher(
    whole: Rig, redis: Redis, command: Command
) -> None:
    position = some_position(whole, redis)
    do(redis, whole, command)
    whole.refresher.close()
    whole.refresher = StepRefresher(whole.url, whole.status_dir, whole.namespace)
    whole.refresher.lead()
    assert_heals(whole, redis, position)


def test_newer_schema_is_refused_by_another_refresher(whole: Rig, redis: Redis) -> None:
    do(redis, whole, ("HINCRBY", "meta", "schema", "1"))
    whole.refresher.close()
    whole.refresher = StepRefresher(whole.url, whole.status_dir, whole.namespace)
    with pytest.raises(SchemaMismatch):
        whole.refresher.lead()
    with pytest.raises(SchemaMismatch):
        whole.cache.counts()


@pytest.mark.parametrize(
    "fields",
    [
        {"change": "nonsense", "id": "a/b/c/d"},
        {"change": "resync", "id": "a/b/c/d"},
        {"change": b"\xff", "id": "a/b/c/d"},
        {"change": "added", "id": "x"},
        {"change": "added", "id": "a/b/c/.."},
        {"change": "added", "id": b"a/b/c/\0"},
        {"change": "added", "id": "a/b/c/" + "d" * 300},
        {"change": "added"},
        {"id": "a/b/c/d"},
        {b"\xff": b"\xff"},
    ],
    ids=repr,
)
def test_reader_passes_over_feed_entries_that_it_cannot_read(
    whole: Rig, redis: Redis, fields: dict[Any, Any]
) -> None:
    changes = whole.refresher.keys.changes
    position = some_position(whole, redis)
    for _ in range(600):  # more than one step reads
        redis.xadd(changes, fields)
    redis.xadd(changes, {"change": "added", "id": "p/g/n/r2", "more": "1"})
    redis.xadd(changes, {"change": "modified", "id": b"p/g/n/\xff"})
    seen = [
        (one.kind.value, one.id and one.id.path) for one in whole.cache.changes(position, wait=0)
    ]
    assert seen == [("added", b"p/g/n/r2"), ("modified", b"p/g/n/\xff")]


def test_reader_at_a_position_of_no_clock_is_told_to_resync(whole: Rig, redis: Redis) -> None:
    position = some_position(whole, redis)
    do(redis, whole, ("XADD", "changes", f"{LARGEST}-5", "change", "added", "id", "p/g/n/r2"))
    (change,) = whole.cache.changes(position, wait=0)
    whole.refresh(Scope.POLL)
    write_run(whole.status_dir, NEW)
    whole.settle()
    (told,) = whole.cache.changes(change.position, wait=0)
    assert told.kind is ChangeKind.RESYNC
    assert list[Change](whole.cache.changes(told.position, wait=0)) == []


@pytest.mark.parametrize("stream", ["changes", "requests"])
def test_standby_follows_on_past_poisoned_entries(whole: Rig, redis: Redis, stream: str) -> None:
    standby = StepRefresher(whole.url, whole.status_dir, whole.namespace)
    try:
        for _ in range(3):
            standby.leadership.stand_by()
        do(redis, whole, ("XADD", stream, f"{LARGEST}-{LARGEST}", "change", "added", "id", "x"))
        standby.leadership.stand_by()
        whole.refresh(Scope.POLL)
        write_run(whole.status_dir, NEW)
        whole.settle()
        for _ in range(4):
            standby.leadership.stand_by()
        assert standby.engine.follower.is_whole
        assert len(standby.engine.follower.take()) == len(RUNS) + 1
    finally:
        standby.close()


# A refresher with its threads


@pytest.fixture
def running(real_server: RunningServer, status_dir: Path, namespace: str) -> Iterator[JobCache]:
    for names in [*RUNS, ("q", "g", "n", "stays")]:
        write_run(status_dir, names)
    with (
        Refresher(
            status_dir,
            url=real_server.url,
            namespace=namespace,
            poll_interval=0.1,
            relist_interval=0.1,
            hold_minimum=2,
        ),
        JobCache(real_server.url, namespace=namespace) as cache,
    ):
        yield cache


POISONED_REQUESTS: list[Command] = [
    (f"{LARGEST}-{LARGEST}", "request", "x"),
    (f"{LARGEST}-{LARGEST - 1}", "request", "refresh"),
    ("99999999999999-1", "request", "x"),
    ("MAXLEN", "0", f"{LARGEST}-{LARGEST}", "request", "x"),
    ("*", "request", "invalidate", "id", b"a/b/c/\0"),
    ("*", "request", "invalidate", "id", "../../../.."),
    ("*", "request", "invalidate", "id", "a/b/c/" + "d" * 5000),
    ("*", "request", "delete", "id", b"a/b/\xff/\0"),
]


@pytest.mark.parametrize("words", POISONED_REQUESTS, ids=lambda words: repr(words)[:60])
def test_requests_after_poisoned_ones_are_read(
    running: JobCache, redis: Redis, namespace: str, words: Command
) -> None:
    requests = f"jobcache:{{{namespace}}}:requests"
    redis.execute_command("XADD", requests, *words)
    scans = running.freshness().generation
    wait_for(lambda: running.freshness().generation > scans + 4)

    def refreshed() -> bool:
        try:
            return running.refresh(wait=True, timeout=3).state is CacheState.READY
        except JobCacheError:
            return False

    wait_for(refreshed)
    assert refreshed()


@pytest.mark.parametrize("command", [("DEL",), ("SET", "x")], ids=repr)
def test_requests_stream_that_goes_away_stops_no_refresh(
    running: JobCache, redis: Redis, namespace: str, command: Command
) -> None:
    requests = f"jobcache:{{{namespace}}}:requests"
    redis.execute_command("XADD", requests, f"{10**13 - 1}-1", "request", "x")
    assert running.refresh(wait=True, timeout=10).state is CacheState.READY
    redis.execute_command(command[0], requests, *command[1:])
    wait_for(lambda: redis.type(requests) in {b"none", b"stream"})
    assert running.refresh(wait=True, timeout=10).state is CacheState.READY


def test_held_deletions_are_released_only_by_who_may_write_the_key(
    running: JobCache, redis: Redis, status_dir: Path, namespace: str
) -> None:
    prefix = f"jobcache:{{{namespace}}}:"
    (status_dir / "p").rename(status_dir.parent / "p")
    wait_for(lambda: running.meta()["held"] == str(len(RUNS)))
    redis.xadd(prefix + "requests", {"request": "release", "id": ""})
    for _ in range(2):
        running.refresh(wait=True, timeout=10)
    assert running.counts().total_jobs == len(RUNS) + 1
    assert running.meta()["held"] == str(len(RUNS))
    redis.set(prefix + "release", "1")
    wait_for(lambda: running.counts().total_jobs == 1)
    assert not redis.exists(prefix + "release"), "it concerns what is held now"
