"""Whatever somebody does to the keys: it is noticed, it is made right, and nobody sees a half of it."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError, RedisError

from jobcache import CacheNotReady, CacheState, CacheUnavailable, JobStatus
from jobcache.cli.checkup import Checkup
from jobcache.cli.doctor import EXAMPLES
from jobcache.schema.scripts import Script
from jobcache_refresher.audit.audit import FEW
from jobcache_refresher.publish.server import EpochError, FencedError
from jobcache_refresher.scan.scope import Scope
from tests.contract.compare import assert_agrees
from tests.harness import Rig
from tests.servers import RunningServer, running_server
from tests.trees import STATUSES, Names, write_run

RUN: Names = ("p", "g", "n", "r0")
"""A running one."""
JOB = "job:p/g/n/r0"
Command = tuple[str, ...]

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


def fill(root: Path, count: int) -> None:
    """Runs in two projects and two groups, every fourth of them running."""
    for number in range(count):
        names = ("pq"[number % 2], "gh"[number // 2 % 2], "n", f"r{number}")
        started = datetime.now() - timedelta(minutes=number)
        status = STATUSES[number % 4]
        write_run(root, names, status=status, start_time=started.isoformat())


@pytest.fixture
def whole(real_server: RunningServer, status_dir: Path, namespace: str) -> Iterator[Rig]:
    """A cache of 20 jobs."""
    fill(status_dir, 20)
    with Rig(real_server.url, status_dir, namespace) as rig:
        rig.settle()
        yield rig


@pytest.fixture
def redis(real_server: RunningServer) -> Iterator[Redis]:
    with real_server.client() as client:
        yield client


def change(rig: Rig, redis: Redis, command: Command) -> None:
    """Do something to a key, named without its prefix; a SET replaces whatever is there."""
    verb, key, *rest = command
    redis.execute_command(verb, rig.refresher.keys.full(key.encode()), *rest)


def keys_of(rig: Rig, redis: Redis) -> list[bytes]:
    return list(redis.scan_iter(rig.refresher.keys.prefix + b"*"))


def findings(rig: Rig) -> Counter[str]:
    """What the doctor finds."""
    with closing(Checkup(rig.url, namespace=rig.namespace, deadline=10)) as checkup:
        report = checkup.examine()
    assert not report.notes
    return report.findings


@pytest.mark.parametrize(
    "command",
    [command for commands in CHANGES.values() for command in commands],
    ids=" ".join,
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
    real_server: RunningServer,
    status_dir: Path,
    namespace: str,
    redis: Redis,
    command: Command,
) -> None:
    count = FEW * 3
    fill(status_dir, count)
    with Rig(real_server.url, status_dir, namespace) as rig:
        rig.settle()
        seen: set[int | str] = set()
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


@contextmanager
def going_back(rig: Rig, redis: Redis) -> Iterator[None]:
    """At its end the server holds what it held before, as a replica that is promoted may."""
    dumped = [(key, redis.dump(key)) for key in keys_of(rig, redis)]
    yield
    redis.delete(*keys_of(rig, redis))
    for key, value in dumped:
        assert value is not None
        redis.restore(key, 3_600_000 if key == rig.refresher.keys.lease else 0, value)


def status_of_run(rig: Rig) -> JobStatus:
    job = rig.cache.get_job(*RUN)
    assert job is not None
    return job.status


class TestAServerThatWentBack:
    def test_server_at_an_older_generation_is_noticed(self, whole: Rig, redis: Redis) -> None:
        with going_back(whole, redis):
            write_run(whole.status_dir, RUN, status="failed")
            write_run(whole.status_dir, ("new", "g", "n", "r"))
            whole.settle()
            epoch = whole.cache.freshness().epoch
        whole.refresh(Scope.POLL)
        assert whole.cache.freshness().epoch != epoch
        assert_agrees(whole)

    def test_a_deletion_notices_as_well_and_hides_nothing(self, whole: Rig, redis: Redis) -> None:
        with going_back(whole, redis):
            write_run(whole.status_dir, RUN, status="failed")
            whole.refresh(Scope.POLL)
            before = whole.cache.freshness()
        for number in range(5):
            with pytest.raises(EpochError):
                whole.refresher.store.delete(b"absent/g/n/r%d" % number, b"1-0")
        assert whole.cache.freshness().generation < before.generation
        whole.refresh(Scope.POLL)
        assert whole.cache.freshness().epoch != before.epoch
        assert_agrees(whole)

    def test_a_deletion_while_a_scan_begins_is_no_sign_of_it(
        self, whole: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It runs in another thread: its reply may overtake that of the scan's first step."""
        run = whole.refresher.server.run

        def delete_meanwhile(script: Script, keys: Any, args: Any) -> Any:
            reply = run(script, keys, args)
            if script.name == "stand":
                whole.refresher.store.delete(b"absent/g/n/r", b"1-0")
            return reply

        before = whole.cache.freshness().epoch
        monkeypatch.setattr(whole.refresher.server, "run", delete_meanwhile)
        assert whole.refresh(Scope.POLL)
        assert whole.cache.freshness().epoch == before

    def test_server_that_goes_back_in_the_middle_of_a_refresh_is_noticed(
        self, whole: Rig, redis: Redis
    ) -> None:
        store = whole.refresher.store
        with going_back(whole, redis):
            whole.refresh(Scope.POLL)
            place = store.start_scan()
        with pytest.raises(EpochError, match="went back"):
            store.complete(place, 300, {})

    def test_server_before_a_write_whose_reply_was_lost_is_noticed(
        self, whole: Rig, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The refresher cannot notice, and writes again; a client that saw the lost write must not mix them up."""
        run = whole.refresher.server.run

        def lose_reply(script: Script, *rest: Any) -> Any:
            reply = run(script, *rest)
            if script.name == "apply":
                raise RedisError("the reply is lost")
            return reply

        with going_back(whole, redis):
            write_run(whole.status_dir, RUN, status="failed")
            monkeypatch.setattr(whole.refresher.server, "run", lose_reply)
            with pytest.raises(RedisError, match="lost"):
                whole.refresh()
            assert status_of_run(whole) is JobStatus.FAILED
        monkeypatch.undo()
        write_run(whole.status_dir, RUN, status="completed", last_heartbeat="")
        whole.refresh()
        assert status_of_run(whole) is JobStatus.COMPLETED
        assert_agrees(whole)

    def test_server_that_went_back_is_noticed_by_another_refresher(
        self, whole: Rig, redis: Redis
    ) -> None:
        """A client that saw what was lost must not take it for what was written since."""
        with going_back(whole, redis):
            write_run(whole.status_dir, RUN, status="failed")
            whole.refresh()
            assert_agrees(whole)
        write_run(whole.status_dir, RUN, status="completed", last_heartbeat="")
        with Rig(whole.url, whole.status_dir, whole.namespace) as other:
            other.refresh()
            assert_agrees(other)
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
    valkey: RunningServer,
    status_dir: Path,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
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


class TestDoctor:
    def test_doctor_finds_nothing_while_others_write(self, whole: Rig) -> None:
        stop = threading.Event()
        seen: list[Counter[str]] = []

        def examine() -> None:
            while not stop.is_set():
                with closing(Checkup(whole.url, namespace=whole.namespace, deadline=10)) as checkup:
                    seen.append(checkup.examine().findings)

        examiner = threading.Thread(target=examine)
        examiner.start()
        number = 0
        while len(seen) < 5 and examiner.is_alive():
            number += 1
            names = ("pqr"[number % 3], "gh"[number % 2], "n", f"r{number % 20}")
            write_run(whole.status_dir, names, status=STATUSES[number % 5])
            whole.refresh(Scope.POLL)
            if number % 5 == 0:
                whole.cache.delete_job(*names)
        stop.set()
        examiner.join()
        assert len(seen) >= 5
        assert not sum(seen, Counter())

    def test_doctor_without_the_right_to_scan_says_so(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        fill(status_dir, 5)
        url = limited(
            valkey,
            f"r-{namespace}",
            "+@read",
            "+@connection",
            "+evalsha_ro",
            "+eval_ro",
            "+time",
            "-scan",
        )
        with Rig(valkey.url, status_dir, namespace) as rig, valkey.client() as redis:
            rig.settle()
            with closing(Checkup(url, namespace=namespace)) as checkup:
                report = checkup.examine()
                assert not report.findings
                assert report.notes == [
                    "keys that belong to nothing were not looked for: SCAN is denied"
                ]
                change(rig, redis, ("DEL", "jobs"))
                assert checkup.examine().findings

    def test_doctor_shows_few_examples(self, valkey_rig: Rig, valkey: RunningServer) -> None:
        fill(valkey_rig.status_dir, 150)
        valkey_rig.settle()
        with valkey.client() as redis:
            change(valkey_rig, redis, ("DEL", "jobs"))
        with closing(Checkup(valkey_rig.url, namespace=valkey_rig.namespace)) as checkup:
            report = checkup.examine()
        assert report.findings["job that an index lacks"] == 150
        assert len(report.examples["job that an index lacks"]) == EXAMPLES


def limited(server: RunningServer, user: str, *rights: str) -> str:
    """The URL of a user with these rights only."""
    with server.client() as redis:
        redis.execute_command("ACL", "SETUSER", user, "reset", "on", ">secret", "~*", *rights)
    url = server.admin_url or server.url
    return url.replace("unix://", f"unix://{user}:secret@")


class TestEvictions:
    @pytest.mark.parametrize("kind", ["valkey-9", "redis-7.0"])
    def test_eviction_of_any_key_is_noticed(
        self, kind: str, status_dir: Path, namespace: str
    ) -> None:
        count = 400
        fill(status_dir, count)
        with running_server(kind) as server, Rig(server.url, status_dir, namespace) as rig:
            redis = server.client()
            rig.settle()
            assert "policy_warning" not in rig.cache.meta()
            used = redis.info("memory")["used_memory"]
            redis.config_set("maxmemory-policy", "allkeys-lru")
            redis.config_set("maxmemory", used + 100_000)
            squeeze(redis, lambda: bool(redis.info("stats")["evicted_keys"]))
            redis.config_set("maxmemory", 0)
            recover(rig)
            assert_agrees(rig)
            assert rig.cache.meta()["policy_warning"].startswith("maxmemory-policy is allkeys-lru")
            redis.close()

    def test_eviction_while_the_cache_is_built_never_lets_it_be_ready(
        self, status_dir: Path, namespace: str
    ) -> None:
        """A cache that does not fit is never ready."""
        fill(status_dir, 600)
        with running_server("valkey-9") as server, Rig(server.url, status_dir, namespace) as rig:
            redis = server.client()
            used = redis.info("memory")["used_memory"]
            redis.config_set("maxmemory-policy", "allkeys-random")
            redis.config_set("maxmemory", used + 600_000)
            for _ in range(3):
                try:
                    assert not rig.refresh()
                except FencedError:
                    rig.refresher.lead()
                except EpochError:
                    pass
                with pytest.raises(CacheNotReady):
                    rig.cache.list_all_jobs()
            redis.config_set("maxmemory", 0)
            recover(rig)
            assert_agrees(rig)
            redis.close()

    def test_eviction_of_volatile_keys_takes_the_lease_alone(
        self, status_dir: Path, namespace: str
    ) -> None:
        """They take the lease, and nothing else."""
        fill(status_dir, 100)
        with running_server("valkey-9") as server, Rig(server.url, status_dir, namespace) as rig:
            redis = server.client()
            rig.settle()
            epoch = rig.cache.freshness().epoch
            redis.config_set("maxmemory-policy", "volatile-lru")
            redis.config_set("maxmemory", redis.info("memory")["used_memory"] + 100_000)
            squeeze(redis, lambda: not redis.exists(rig.refresher.keys.lease))
            redis.config_set("maxmemory", 0)
            with pytest.raises(FencedError):
                rig.refresh(Scope.POLL)
            rig.refresher.lead()
            rig.refresh(Scope.POLL)
            assert_agrees(rig)
            assert rig.cache.freshness().epoch == epoch
            assert "policy_warning" not in rig.cache.meta()
            redis.close()


def squeeze(redis: Redis, done: Callable[[], bool]) -> None:
    """Write other keys until the server had to make room."""
    for number in range(2_000):
        with suppress(OutOfMemoryError):
            redis.set(f"other:{number}", "x" * 1_000, ex=10_000)
        if done():
            return
    pytest.fail("nothing was evicted")


def recover(rig: Rig) -> None:
    """As the loop of a refresher does."""
    for _ in range(3):
        try:
            if rig.refresh(Scope.POLL):
                return
        except FencedError:
            rig.refresher.lease.drop()
            rig.refresher.lead()
    pytest.fail("the cache does not recover")


class TestDenied:
    def test_audit_where_info_and_config_are_denied_repairs_all_the_same(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        fill(status_dir, 5)
        url = limited(valkey, f"w-{namespace}", "+@all", "-info", "-config")
        with Rig(url, status_dir, namespace) as rig, valkey.client() as redis:
            rig.settle()
            rig.refresh(Scope.POLL, audit=True)
            change(rig, redis, ("DEL", "status:running"))
            rig.refresh(Scope.POLL)
            assert_agrees(rig)
            assert "policy_warning" not in rig.cache.meta()
