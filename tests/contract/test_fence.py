"""What the server refuses in the same step: whoever lost the lease, another epoch, what a client deleted meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

import pytest
from redis import Redis

from jobcache_refresher.engine import Engine
from jobcache_refresher.publish.diff import Operation, put
from jobcache_refresher.publish.problems import PublishedProblems
from jobcache_refresher.publish.server import EpochError, FencedError
from jobcache_refresher.publish.store import ScanStart
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import Names, write_run

RUN: Names = ("p", "g", "n", "r1")
PATH = b"p/g/n/r1"
NEW = b"p/g/n/new"
FIELDS = {b"status": b"running", b"hardware": b"{}", b"config": b"{}", b"chips": b"1"}
ENDLESS = 1 << 50
"""A generation that no tombstone is younger than."""

WRITES: dict[str, Callable[[Engine], object]] = {
    "apply": lambda engine: list(
        engine.store.apply([put(NEW, None, FIELDS)], ScanStart(ENDLESS, 0.0))
    ),
    "complete": lambda engine: engine.store.complete(
        ScanStart(ENDLESS, 0.0), 300, {"state": "ready"}
    ),
    "report": lambda engine: engine.store.report({"state": "degraded"}),
    "stand": lambda engine: engine.store.start_scan(),
    "delete": lambda engine: engine.store.delete(PATH, b"1-0"),
    "clear": lambda engine: engine.inspector.drop([b"jobs"]),
    "prune": lambda engine: engine.inspector.prune([(b"jobs", PATH)]),
    "set_fields": lambda engine: PublishedProblems(engine.server, engine.store, engine.keys).write(
        {PATH: b"{}"}
    ),
    "recount": lambda engine: engine.inspector.recount(),
    "inspect": lambda engine: engine.inspector.inspect(indexes=[b"jobs"]),
}
"""Every step that is fenced by lease and epoch, as the refresher takes it."""


@pytest.fixture
def whole(rig: Rig) -> Rig:
    """A cache of one job, with something in every key that is written."""
    write_run(rig.status_dir, RUN)
    rig.settle()
    rig.cache.delete_job("absent", "g", "n", "r")
    return rig


@pytest.fixture
def redis(server: RunningServer, whole: Rig) -> Redis:
    return server.client()


def contents(rig: Rig, redis: Redis) -> dict[bytes, bytes | None]:
    return {key: redis.dump(key) for key in redis.scan_iter(rig.refresher.keys.prefix + b"*")}


def test_fenced_scripts_are_all_in_the_table() -> None:
    """``begin`` knows no epoch yet, and is tried apart."""
    scripts = files("jobcache_refresher").joinpath("lua").iterdir()
    fenced = {script.name for script in scripts if "refuse(" in script.read_text()}
    assert fenced == {f"{name}.lua" for name in WRITES} | {"begin.lua", "fence.lua"}


@pytest.mark.parametrize("lease", [b"other:1:00000000 1", None], ids=["another's", "gone"])
def test_write_under_a_lost_lease_is_refused(whole: Rig, redis: Redis, lease: bytes | None) -> None:
    key = whole.refresher.keys.lease
    redis.delete(key) if lease is None else redis.set(key, lease)
    before = contents(whole, redis)
    for name, write in [*WRITES.items(), ("begin", lambda engine: engine.store.begin({}))]:
        with pytest.raises(FencedError):
            write(whole.refresher.engine)
        assert contents(whole, redis) == before, name


@pytest.mark.parametrize("epoch", ["1.000000", None], ids=["another", "none"])
def test_write_to_an_epoch_that_is_over_is_refused(
    whole: Rig, redis: Redis, epoch: str | None
) -> None:
    meta = whole.refresher.keys.meta
    redis.hdel(meta, "epoch") if epoch is None else redis.hset(meta, "epoch", epoch)
    before = contents(whole, redis)
    for name, write in WRITES.items():
        with pytest.raises(EpochError):
            write(whole.refresher.engine)
        assert contents(whole, redis) == before, name


class TestApply:
    def apply(self, rig: Rig, operation: Operation, observed: int) -> str:
        (outcome,) = rig.refresher.store.apply([operation], ScanStart(observed, 0.0))
        return outcome.verdict

    def test_apply_of_a_job_deleted_after_the_scan_began_does_nothing(
        self, whole: Rig, redis: Redis
    ) -> None:
        keys = whole.refresher.keys
        record = whole.refresher.records[PATH]
        place = whole.refresher.store.start_scan()
        assert whole.cache.delete_job(*RUN)
        deleted_at = int(redis.zscore(keys.tombstones, PATH) or 0)
        assert deleted_at > place.generation
        for operation in (put(PATH, None, record.fields), put(PATH, record, record.fields)):
            assert self.apply(whole, operation, place.generation) == "tombstone"
            assert self.apply(whole, operation, deleted_at - 1) == "tombstone"
        assert whole.cache.list_all_jobs() == []
        assert redis.zcard(keys.full(b"jobs")) == 0
        # What a scan found that began later is there again.
        assert self.apply(whole, put(PATH, None, record.fields), deleted_at) == "ok"
        assert [job.run_id for job in whole.cache.list_all_jobs()] == ["r1"]
        assert redis.zscore(keys.tombstones, PATH) is None

    def test_apply_of_a_job_at_another_revision_does_nothing(
        self, whole: Rig, redis: Redis
    ) -> None:
        record = whole.refresher.records[PATH]
        job = whole.refresher.keys.full(b"job:" + PATH)
        fields = {**record.fields, b"status": b"failed"}
        redis.hset(job, "rev", "7")
        before = redis.hgetall(job)
        for operation in (put(PATH, None, fields), put(PATH, record, fields)):
            assert self.apply(whole, operation, ENDLESS) == "changed"
        assert redis.hgetall(job) == before
        running = whole.refresher.keys.full(b"status:running")
        assert redis.zscore(running, PATH) is not None

    def test_apply_that_runs_twice_does_nothing_the_second_time(self, whole: Rig) -> None:
        operation = put(NEW, None, FIELDS)
        assert self.apply(whole, operation, ENDLESS) == "ok"
        assert self.apply(whole, operation, ENDLESS) == "changed"


@pytest.mark.parametrize("all_is_lost", [True, False])
def test_lease_that_was_lost_alone_may_have_been_anothers(
    whole: Rig, redis: Redis, all_is_lost: bool
) -> None:
    """Who led meanwhile may be gone again, with all that it published, before anybody looks."""
    refresher = whole.refresher
    lost = list(redis.scan_iter(refresher.keys.prefix + b"*")) if all_is_lost else []
    redis.delete(refresher.keys.lease, *lost)
    with pytest.raises(FencedError) as fenced:
        refresher.store.start_scan()
    assert fenced.value.with_the_cache is all_is_lost
    assert not refresher.lease.renew()
    assert refresher.lease.has_lapsed is not all_is_lost
