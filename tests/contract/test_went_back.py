"""A server that goes back to an older state: it is noticed, and nothing is hidden."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from jobcache import JobStatus
from jobcache.schema.scripts import Script
from jobcache_refresher.publish.server import EpochError
from jobcache_refresher.scan.scope import Scope
from tests.contract.compare import assert_agrees
from tests.contract.damage import RUN, keys_of
from tests.harness import Rig
from tests.trees import write_run


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
