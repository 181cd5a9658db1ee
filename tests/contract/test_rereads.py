"""When files read otherwise than before: every run is read again at a bounded rate, live runs first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis

from jobcache import JobId
from jobcache.schema import meta
from jobcache.schema.job import FINGERPRINT, REV
from jobcache_refresher.scan.scope import Scope
from tests.faults.faulty import FaultyTree
from tests.harness import Rig, StepRefresher, note_reads
from tests.servers import RunningServer
from tests.trees import Names, delete_run, write_raw, write_run

RUNS = 30
LOCAL = "2026-02-04T09:44:35"
IN_UTC = datetime(2026, 2, 4, 9, 44, 35, tzinfo=UTC)
IN_SHANGHAI = datetime(2026, 2, 4, 1, 44, 35, tzinfo=UTC)
"""What it is if it was written there."""
LIVE = 7
"""The one run that is live."""
PER_SECOND = 20
"""Runs that are read anew in a second, here."""


def names_of(number: int) -> Names:
    return ("p", "g", "n", f"r{number:03}")


def path_of(number: int) -> bytes:
    return "/".join(names_of(number)).encode()


@pytest.fixture(autouse=True)
def slow_rereads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobcache_refresher.scan.rereads.PER_SECOND", PER_SECOND)


@pytest.fixture
def led(valkey_rig: Rig) -> Rig:
    """A cache that was read in UTC."""
    for number in range(RUNS):
        beat = datetime.now(UTC).isoformat() if number == LIVE else LOCAL
        status = "running" if number == LIVE else "completed"
        write_run(
            valkey_rig.status_dir,
            names_of(number),
            status=status,
            start_time=LOCAL,
            last_heartbeat=beat,
        )
    read_in(valkey_rig, timezone="UTC")
    assert starts(valkey_rig) == [IN_UTC] * RUNS
    return valkey_rig


@pytest.fixture
def redis(valkey: RunningServer) -> Iterator[Redis]:
    with valkey.client() as client:
        yield client


@contextmanager
def refresher(rig: Rig, **settings: Any) -> Iterator[StepRefresher]:
    """Another refresher of the same cache, at a time when its files have long been at rest."""
    with closing(StepRefresher(rig.url, rig.status_dir, rig.namespace, **settings)) as other:
        other.time.advance(30)
        yield other


@contextmanager
def leading(rig: Rig, **settings: Any) -> Iterator[StepRefresher]:
    """A refresher that took over."""
    with refresher(rig, **settings) as leader:
        leader.lead()
        yield leader


def read_in(rig: Rig, **settings: Any) -> None:
    """Have everything read and published under some settings."""
    with leading(rig, **settings) as leader:
        leader.settle()
        reread(leader)
        leader.settle()
    assert waiting(rig) == 0


def reread(leader: StepRefresher) -> None:
    """Scan until nothing waits to be read anew."""
    for _ in range(3 * RUNS):
        if leader.scanner.snapshot.outdated:
            leader.refresh(Scope.POLL)
    assert not leader.scanner.snapshot.outdated


def assert_each_was_read(read: list[bytes]) -> None:
    """Every run was read once; the live one perhaps by each leader, since it may be published as racy."""
    once = [path for path in read if path != path_of(LIVE)]
    assert sorted(once) == [path_of(number) for number in range(RUNS) if number != LIVE]
    assert 1 <= read.count(path_of(LIVE)) <= 2


def waiting(rig: Rig) -> int:
    return int(rig.cache.meta()[meta.REREAD])


def starts(rig: Rig) -> list[datetime | None]:
    return [job.started_at for job in rig.cache.list_all_jobs(limit=None)]


def test_a_zone_that_is_put_right_reaches_every_run_at_a_bounded_rate(
    led: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = note_reads(monkeypatch)
    with leading(led, timezone="Asia/Shanghai") as leader:
        began = leader.time.clock.monotonic()
        assert starts(led) == [IN_UTC] * RUNS
        counts: list[int] = []
        while not counts or counts[-1]:
            leader.refresh(Scope.POLL)
            counts.append(waiting(led))
            assert len(read) == RUNS - counts[-1]
            assert len(read) <= PER_SECOND * (leader.time.clock.monotonic() - began)
            assert starts(led).count(IN_SHANGHAI) == len(read)
        assert counts == sorted(counts, reverse=True)
        assert len(counts) > 5
        assert read[0] == path_of(LIVE)
        assert sorted(read) == [path_of(number) for number in range(RUNS)]
        leader.settle()
    assert len(read) == RUNS


def test_a_restart_under_the_same_settings_reads_nothing_anew(
    led: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = note_reads(monkeypatch)
    with leading(led, timezone="UTC") as leader:
        assert not leader.scanner.snapshot.outdated
        leader.settle()
    assert (read, waiting(led)) == ([], 0)


def test_a_restart_in_between_goes_on_with_what_is_left(
    led: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = note_reads(monkeypatch)
    with leading(led, timezone="Asia/Shanghai") as leader:
        leader.refresh()
        leader.refresh()
    assert 0 < len(read) < RUNS
    read_in(led, timezone="Asia/Shanghai")
    assert_each_was_read(read)


def test_a_standby_that_takes_over_reads_what_the_leader_did_not(
    led: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refresher(led, timezone="Asia/Shanghai") as standby:
        standby.leadership.stand_by()
        assert standby.engine.follower.is_whole
        read = note_reads(monkeypatch)
        with leading(led, timezone="Asia/Shanghai") as leader:
            leader.refresh()
            leader.refresh()
        assert 0 < len(read) < RUNS
        standby.leadership.stand_by()
        standby.lead()
        assert len(standby.scanner.snapshot.outdated) == RUNS - len(read)
        reread(standby)
    assert_each_was_read(read)
    assert starts(led) == [IN_SHANGHAI] * RUNS


def test_a_run_whose_reading_is_the_same_is_written_once_for_the_next_leader(
    led: Rig, redis: Redis
) -> None:
    def published() -> dict[bytes, bytes]:
        found: Any = redis.hgetall(led.refresher.keys.job(JobId(*names_of(0))))
        return {name: value for name, value in found.items() if name != REV}

    before = published()
    with leading(led, timezone="UTC", status_words="paused=preempted") as leader:
        reread(leader)
    after = published()
    assert before.pop(FINGERPRINT) != after.pop(FINGERPRINT)
    assert before == after


def test_what_an_older_version_published_is_read_anew(led: Rig, redis: Redis) -> None:
    for number in range(RUNS):
        key = led.refresher.keys.job(JobId(*names_of(number)))
        text: Any = redis.hget(key, "fingerprint")
        redis.hset(key, "fingerprint", b":".join(text.split(b":")[:4]))
    with leading(led, timezone="UTC") as leader:
        leader.refresh()
        assert 0 < waiting(led) < RUNS
        reread(leader)
    assert waiting(led) == 0


def test_a_run_that_changes_while_it_waits_is_read_once(
    led: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with leading(led, timezone="Asia/Shanghai") as leader:
        read = note_reads(monkeypatch)
        write_run(led.status_dir, names_of(0), status="failed", start_time=LOCAL)
        delete_run(led.status_dir, names_of(1))
        leader.time.advance(30)
        leader.settle()
        assert path_of(0) in read
        assert path_of(0) not in leader.scanner.snapshot.outdated
        assert path_of(1) not in leader.scanner.snapshot.outdated
        leader.time.advance(30)
        leader.refresh()
        del read[:]
        reread(leader)
        assert path_of(0) not in read


def test_a_run_that_cannot_be_read_is_shown_as_it_was_and_waits(led: Rig, status_dir: Any) -> None:
    tree = FaultyTree(str(status_dir))
    with leading(led, timezone="Asia/Shanghai", tree=tree) as leader:
        tree.fail(5, lambda path: path.startswith(path_of(0) + b"/"))
        for _ in range(2 * RUNS):
            leader.refresh()
        assert leader.scanner.snapshot.outdated == {path_of(0)}
        assert waiting(led) == 1
        job = led.cache.get_job(*names_of(0))
        assert job is not None
        assert job.started_at == IN_UTC
        tree.heal()
        leader.refresh()
        leader.refresh()
        assert starts(led) == [IN_SHANGHAI] * RUNS
    assert waiting(led) == 0


def test_a_remark_is_known_again_after_a_restart(led: Rig) -> None:
    write_run(led.status_dir, names_of(0), status="running", last_heartbeat="2099-01-01T00:00:00")
    with leading(led, timezone="UTC") as leader:
        leader.settle()
        before = dict(leader.scanner.snapshot.problems())
    assert before.keys() == {path_of(0)}
    assert before[path_of(0)].startswith("last_heartbeat lies ")
    with leading(led, timezone="UTC") as leader:
        reread(leader)
        assert dict(leader.scanner.snapshot.problems()).keys() == before.keys()
        write_raw(led.status_dir.joinpath(*names_of(0)), b'{"status": "completed"}')
        leader.settle()
        assert dict(leader.scanner.snapshot.problems()) == {}
