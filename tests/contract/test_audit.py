"""Whatever somebody does to the keys: it is noticed, it is made right, and nobody sees a half of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from jobcache import CacheNotReady, CacheState, CacheUnavailable
from jobcache_refresher.audit.audit import FEW
from jobcache_refresher.publish.server import FencedError
from jobcache_refresher.scan.scope import Scope
from tests.contract.compare import assert_agrees
from tests.contract.damage import JOB, RUN, Command, change, fill, findings, keys_of
from tests.harness import Rig
from tests.servers import RunningServer

CHANGES: dict[str, list[Command]] = {
    "an index key is lost": [
        ("DEL", key)
        for key in (
            *("jobs", "status:running", "project:p", "project:p/status:failed"),
            *("group:g/status:running", "project:p/group:g/status:running", "runs:p/g/n"),
            *("running", "running:p", "projects", "groups:p"),
        )
    ],
    "an index key is of a wrong type": [
        ("SET", key, "x") for key in ("jobs", "status:running", "runs:p/g/n", "running", "groups:p")
    ],
    "a hash is lost or was changed": [
        ("DEL", JOB),
        ("SET", JOB, "x"),
        ("HDEL", JOB, "config"),
        ("HSET", JOB, "rev", "999"),
        ("HDEL", JOB, "rev"),
        ("HSET", JOB, "more", "1"),
    ],
    "an entry is lost or has another score": [
        ("ZREM", "jobs", "p/g/n/r0"),
        ("ZADD", "jobs", "1", "p/g/n/r0"),
        ("ZADD", "running", "1", "p/g/n/r0"),
        ("ZADD", "runs:p/g/n", "-inf", "r0"),
        ("ZREM", "projects", "p"),
    ],
    "a member stands where none must": [
        ("ZADD", "jobs", "1", "no/such/job/there"),
        ("ZADD", "jobs", "1", "garbage"),
        ("ZADD", "status:unknown", "1", "p/g/n/r0"),
        ("ZADD", "running", "9e9", "q/g/n/r1"),
        ("ZADD", "runs:p/g/n", "9e9", "r9"),
        ("ZADD", "projects", "0", "nobody's"),
        ("ZADD", "groups:p", "0", "nobody's"),
    ],
    "a key would end by itself": [
        ("EXPIRE", key, "1000") for key in (JOB, "jobs", "runs:p/g/n", "meta", "changes")
    ],
    "meta is wrong": [
        ("HINCRBY", "meta", "active_chips", "5"),
        ("HSET", "meta", "active_chips", "0"),
        ("DEL", "meta"),
        ("SET", "meta", "x"),
        ("HDEL", "meta", "epoch"),
        ("HDEL", "meta", "generation"),
        ("HINCRBY", "meta", "generation", "-3"),
    ],
    "a stream beside is of a wrong type": [
        ("SET", "changes", "x"),
        ("SET", "requests", "x"),
        ("SET", "tombstones", "x"),
    ],
}


UNSEEN = {
    ("HDEL", JOB, "config"),
    ("HSET", JOB, "rev", "999"),
    ("HSET", JOB, "more", "1"),
    ("HDEL", "meta", "epoch"),
    ("HDEL", "meta", "generation"),
    ("HINCRBY", "meta", "generation", "-3"),
}
"""What only the refresher can tell, since it knows what it published."""


STRANGE: list[Command] = [
    ("HSET", "job:no/such/job/there", "status", "failed"),
    ("SET", "foreign", "x"),
    ("ZADD", "project:ghost", "1", "ghost/g/n/r"),
    ("ZADD", "groups:ghost", "0", "g"),
]
"""Keys that must not be there. They are looked for among all keys of the server, so it takes more than a poll."""


@pytest.mark.parametrize(
    "command", [command for commands in CHANGES.values() for command in commands], ids=" ".join
)
def test_poll_after_damage_repairs_it(
    whole: Rig, redis: Redis, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    change(whole, redis, command)
    if command == ("DEL", "meta"):
        with pytest.raises(CacheNotReady):
            findings(whole)
    else:
        assert bool(findings(whole)) == (command not in UNSEEN)
    with caplog.at_level(logging.WARNING):
        assert whole.refresh(Scope.POLL)
    assert caplog.records
    assert_agrees(whole)
    assert whole.cache.freshness().state is CacheState.READY
    caplog.clear()
    whole.refresh(Scope.POLL)
    assert not caplog.records, "it is made right at once"
    ending = [key for key in keys_of(whole, redis) if redis.ttl(key) > 0]
    assert ending == [whole.refresher.keys.lease]
    assert not findings(whole)


def test_repair_is_a_write_of_its_own(whole: Rig) -> None:
    """Or a client that saw the damage would take what it saw for what it would be told again."""
    inspector = whole.refresher.engine.inspector
    repairs: list[Callable[[], None]] = [
        lambda: inspector.prune([(b"status:unknown", b"p/g/n/r0")]),
        lambda: inspector.drop([b"project:ghost"]),
        inspector.recount,
    ]
    for repair in repairs:
        before = whole.cache.freshness().generation
        repair()
        assert whole.cache.freshness().generation > before


@pytest.mark.parametrize("command", STRANGE, ids=" ".join)
def test_audit_removes_keys_that_must_not_be_there(
    whole: Rig, redis: Redis, command: Command
) -> None:
    before = set(keys_of(whole, redis))
    change(whole, redis, command)
    assert set(keys_of(whole, redis)) != before
    assert findings(whole)
    whole.refresh(Scope.POLL, audit=True)
    assert set(keys_of(whole, redis)) == before
    assert_agrees(whole)


def test_audit_repairs_little_and_builds_much_anew(
    real_server: RunningServer, status_dir: Path, namespace: str, redis: Redis
) -> None:
    fill(status_dir, FEW + 20)
    with Rig(real_server.url, status_dir, namespace) as rig:
        rig.settle()
        epoch = rig.cache.freshness().epoch
        change(rig, redis, ("DEL", JOB))
        rig.refresh(Scope.POLL)
        meta = rig.cache.meta()
        assert meta["epoch"] == epoch
        assert meta["repaired"].startswith("repaired: job 'p/g/n/r0' ")
        change(rig, redis, ("DEL", "jobs"))
        rig.refresh(Scope.POLL)
        meta = rig.cache.meta()
        assert meta["epoch"] != epoch
        assert meta["repaired"] == f"built anew: 'jobs' holds 0 of {FEW + 20}"
        assert_agrees(rig)


@pytest.mark.parametrize(
    "command", [("DEL", "jobs"), ("SET", "jobs", "x"), ("DEL", "meta")], ids=" ".join
)
def test_rebuild_is_never_seen_half_done(
    real_server: RunningServer, status_dir: Path, namespace: str, redis: Redis, command: Command
) -> None:
    count = FEW * 3
    fill(status_dir, count)
    with Rig(real_server.url, status_dir, namespace) as rig:
        rig.settle()
        seen: set[int | str | None] = set()
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                try:
                    seen.add(rig.cache.page(limit=1).total)
                    seen.add(rig.cache.get_dashboard_stats().total_jobs)
                    seen.add(len(rig.cache.get_running_jobs()) * 4)
                except (CacheNotReady, CacheUnavailable) as error:
                    seen.add(type(error).__name__)

        change(rig, redis, command)
        reader = threading.Thread(target=read)
        reader.start()
        rig.refresh(Scope.POLL)
        stop.set()
        reader.join()
        damaged = {0} if command == ("DEL", "jobs") else {"CacheUnavailable"}
        assert "CacheNotReady" in seen
        assert seen <= {count, "CacheNotReady"} | damaged
        assert_agrees(rig)


@pytest.mark.parametrize("flush", ["FLUSHALL", "FLUSHDB"])
def test_flushed_cache_is_published_from_memory(whole: Rig, redis: Redis, flush: str) -> None:
    reads = len(whole.refresher.scanner.snapshot.runs)
    redis.execute_command(flush)
    with pytest.raises(CacheNotReady):
        whole.cache.list_all_jobs()
    with pytest.raises(FencedError):
        whole.refresh(Scope.POLL)
    whole.refresher.lead()
    whole.refresh(Scope.POLL)
    assert len(whole.refresher.scanner.snapshot.runs) == reads
    assert_agrees(whole)


@pytest.mark.parametrize(
    "command", [("SET", "lease", "x"), ("DEL", "lease"), ("RPUSH", "lease", "x")], ids=" ".join
)
def test_lease_that_is_none_ends_writing_until_it_is_taken_again(
    whole: Rig, redis: Redis, command: Command
) -> None:
    change(whole, redis, ("DEL", "lease"))
    change(whole, redis, command)
    with pytest.raises(FencedError):
        whole.refresh(Scope.POLL)
    assert not whole.refresher.lease.renew()
    if command[0] == "SET":
        change(whole, redis, ("DEL", "lease"))
    whole.refresher.lead()
    whole.refresh(Scope.POLL)
    assert_agrees(whole)


def test_deletion_by_a_client_is_no_finding(whole: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The refresher has not been told of them yet."""
    with caplog.at_level(logging.WARNING):
        for names in (RUN, ("q", "g", "n", "r1"), ("p", "h", "n", "r2")):
            whole.cache.delete_job(*names)
            whole.refresh(Scope.POLL, audit=True)
            assert whole.cache.get_job(*names) is None
    assert not caplog.records
    assert whole.cache.meta()["audit_findings"] == "0"


def test_audit_of_everything_says_what_it_found(whole: Rig, redis: Redis) -> None:
    whole.refresh(Scope.POLL, audit=True)
    before = whole.cache.meta()
    assert before["audit_findings"] == "0"
    change(whole, redis, ("ZADD", "jobs", "1", "garbage"))
    change(whole, redis, ("DEL", JOB))
    whole.refresh(Scope.POLL, audit=True)
    after = whole.cache.meta()
    assert after["audit_findings"] == "2"
    assert float(after["audited_at"]) > float(before["audited_at"])


def test_audit_of_a_large_cache_compares_it_in_turn(
    valkey: RunningServer, status_dir: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobcache_refresher.audit.audit.LEAST_JOBS", 1)
    monkeypatch.setattr("jobcache_refresher.audit.audit.LEAST_KEYS", 1)
    fill(status_dir, 40)
    with (
        Rig(valkey.url, status_dir, namespace, audit_interval=100) as rig,
        valkey.client() as redis,
    ):
        rig.settle()
        change(rig, redis, ("HDEL", JOB, "config"))
        for _ in range(10):
            rig.refresher.time.advance(100 / 9)
            rig.refresh(Scope.POLL)
        assert_agrees(rig)


def test_takeover_repairs_what_was_lost_before(whole: Rig, redis: Redis) -> None:
    whole.__exit__()
    for command in (("DEL", JOB), ("DEL", "status:failed"), ("ZREM", "jobs", "q/g/n/r1")):
        change(whole, redis, command)
    with Rig(whole.url, whole.status_dir, whole.namespace) as again:
        again.settle()
        again.settle()
        assert_agrees(again)


@pytest.mark.parametrize("command", [("DEL", "jobs"), ("ZREMRANGEBYRANK", "jobs", "0", "100")])
def test_takeover_after_much_was_lost_shows_nothing_until_all_is_back(
    valkey: RunningServer, status_dir: Path, namespace: str, command: Command
) -> None:
    """Until all of it is back, nobody is shown the rest as if it were all."""
    fill(status_dir, FEW + 20)
    with Rig(valkey.url, status_dir, namespace) as rig, valkey.client() as redis:
        rig.settle()
        rig.__exit__()
        change(rig, redis, command)
        with Rig(valkey.url, status_dir, namespace) as again:
            with pytest.raises(CacheNotReady):
                again.cache.list_all_jobs()
            again.refresh()
            assert_agrees(again)
