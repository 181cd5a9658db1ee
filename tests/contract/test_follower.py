"""A refresher that stands by keeps up with what another one publishes, and believes none of it unseen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from random import Random
from typing import Any

import pytest
from redis import Redis

from jobcache_refresher.records import Records
from tests.contract.compare import assert_agrees
from tests.harness import Rig, StepRefresher, note_reads
from tests.servers import RunningServer
from tests.trees import STATUSES, Names, delete_run, run_dir, write_run

JOBS = 30


def names_of(number: int) -> Names:
    return ("pq"[number % 2], "g", "n", f"r{number:02}")


@pytest.fixture
def led(valkey_rig: Rig) -> Rig:
    """A cache that a refresher leads."""
    for number in range(JOBS):
        write_run(valkey_rig.status_dir, names_of(number), status=STATUSES[number % 4])
    valkey_rig.refresh()
    valkey_rig.refresher.time.advance(30)
    valkey_rig.settle()
    return valkey_rig


@pytest.fixture
def redis(valkey: RunningServer) -> Iterator[Redis]:
    with valkey.client() as client:
        yield client


@pytest.fixture
def standby(led: Rig) -> Iterator[StepRefresher]:
    """Another refresher of the same namespace, which has read all of it."""
    with closing(StepRefresher(led.url, led.status_dir, led.namespace)) as refresher:
        refresher.engine.follower.keys_per_step = 7  # so that all jobs take several
        refresher.time.advance(30)
        refresher.leadership.stand_by()
        assert refresher.engine.follower.is_whole
        yield refresher


def assert_agrees_under(led: Rig, leader: StepRefresher) -> None:
    """What readers see is the tree, now that somebody else leads."""
    led.refresher.engine.ledger.records = leader.records
    assert_agrees(led)


def change_some(led: Rig) -> None:
    """One is modified, one added, one deleted, one deleted by a client, one looked at without a visible change."""
    write_run(led.status_dir, names_of(0), status="preempted")
    write_run(led.status_dir, names_of(JOBS), status="failed")
    for number in (1, 2):
        delete_run(led.status_dir, names_of(number))
    write_run(led.status_dir, names_of(3), status=STATUSES[3])
    led.cache.delete_job(*names_of(2))
    led.settle()


def hashes_read(redis: Redis) -> int:
    found: dict[str, Any] = redis.info("commandstats")
    return int(found.get("cmdstat_hgetall", {}).get("calls", 0))


@pytest.mark.parametrize("follows", [True, False])
def test_takeover_reads_only_what_changed(
    led: Rig, standby: StepRefresher, redis: Redis, follows: bool
) -> None:
    change_some(led)
    if follows:
        standby.leadership.stand_by()
    before = hashes_read(redis)
    standby.lead()
    assert hashes_read(redis) - before <= (1 if follows else 4)  # one is the hash of problems
    assert standby.records.keys() == led.refresher.records.keys()
    standby.refresh()
    assert_agrees_under(led, standby)


def test_takeover_reads_no_file_that_another_refresher_read(
    led: Rig, standby: StepRefresher, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_some(led)
    led.refresher.time.advance(30)
    led.settle()
    standby.leadership.stand_by()
    read = note_reads(monkeypatch)
    write_run(led.status_dir, names_of(5), status="failed")
    standby.lead()
    standby.refresh()
    # A live run may have been published as racy: then the next leader reads it once.
    live = {"/".join(names_of(n)).encode() for n in range(JOBS) if STATUSES[n % 4] == "running"}
    assert set(read) - live == {"/".join(names_of(5)).encode()}
    assert_agrees_under(led, standby)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "half"])
def test_takeover_after_a_flush_publishes_what_was_followed_once_the_tree_was_seen(
    led: Rig, standby: StepRefresher, redis: Redis, whole: bool
) -> None:
    if not whole:
        standby.engine.follower.take()
        standby.leadership.stand_by()
        standby.engine.follower.is_whole = False
    change_some(led)
    redis.flushall()
    delete_run(led.status_dir, names_of(6))
    write_run(led.status_dir, names_of(7), status="preempted")
    standby.lead()
    states: set[str] = set()
    original = standby.tree.list_directory

    def list_directory(path: bytes, **rest: Any) -> Any:
        states.add(led.cache.meta()["state"])
        return original(path, **rest)

    standby.tree.list_directory = list_directory  # type: ignore[method-assign]
    standby.refresh()
    assert states == {"building"}
    del standby.tree.list_directory
    standby.settle()
    standby.settle()
    assert_agrees_under(led, standby)


def test_standby_that_led_before_forgets_what_it_knew(
    led: Rig, standby: StepRefresher, redis: Redis
) -> None:
    standby.lead()
    standby.refresh()
    led.refresher.lead()
    change_some(led)
    standby.leadership.stand_by()
    standby.engine.follower.is_whole = False  # as if it had not come to the end
    redis.delete(led.refresher.keys.meta)
    delete_run(led.status_dir, names_of(8))
    standby.lead()
    standby.settle()
    standby.settle()
    assert_agrees_under(led, standby)


@pytest.mark.parametrize("led_before", [True, False])
def test_takeover_brings_back_a_deleted_job_whose_files_stay(
    led: Rig, standby: StepRefresher, led_before: bool
) -> None:
    if led_before:
        standby.lead()
        standby.settle()
        led.refresher.lead()
    led.cache.delete_job(*names_of(9))
    if not led_before:
        standby.leadership.stand_by()
    standby.lead()
    assert led.cache.get_job(*names_of(9)) is None
    standby.refresh()
    assert_agrees_under(led, standby)


def test_follower_of_an_epoch_that_ends_meanwhile_is_not_whole(
    led: Rig, standby: StepRefresher, redis: Redis
) -> None:
    follower = standby.engine.follower
    follower.take()
    follower.follow(0)
    ask = standby.server.ask

    def begin_anew(*command: Any) -> Any:
        reply = ask(*command)
        redis.hset(led.refresher.keys.meta, "epoch", "1.000000")
        return reply

    standby.server.ask = begin_anew  # type: ignore[method-assign]
    follower.follow(0.2)
    del standby.server.ask
    assert not follower.is_whole
    redis.delete(led.refresher.keys.meta)
    standby.lead()
    standby.settle()
    assert_agrees_under(led, standby)


def test_follower_revisions_of_another_epoch_tell_nothing(led: Rig, standby: StepRefresher) -> None:
    write_run(led.status_dir, names_of(0), status="preempted")
    led.settle()
    led.refresher.rebuild()
    led.settle()
    assert read_all(standby) == cold(led)


def read_all(refresher: StepRefresher) -> Records:
    """What it takes over if it leads now."""
    epoch = refresher.store.join()
    assert epoch is not None
    records = refresher.engine.follower.complete(epoch)
    assert records is not None
    return records


def cold(led: Rig) -> Records:
    """What a refresher that knows nothing reads."""
    with closing(StepRefresher(led.url, led.status_dir, led.namespace)) as other:
        return read_all(other)


@pytest.mark.parametrize("seed", range(6))
def test_follower_after_any_history_knows_what_a_cold_start_reads(
    led: Rig, standby: StepRefresher, seed: int
) -> None:
    rng = Random(seed)
    for _ in range(25):
        number = rng.randrange(JOBS + 5)
        match rng.randrange(6):
            case 0 | 1:
                write_run(led.status_dir, names_of(number), status=rng.choice(STATUSES))
                led.refresh()
            case 2:
                if run_dir(led.status_dir, names_of(number)).exists():
                    delete_run(led.status_dir, names_of(number))
                led.settle()
            case 3:
                led.cache.delete_job(*names_of(number))
            case 4:
                if rng.random() < 0.2:
                    led.refresher.rebuild()
                    led.refresh()
            case 5:
                standby.engine.follower.follow(rng.choice((0.0, 0.0, 0.05)))
    expected = cold(led)
    assert read_all(standby) == expected
