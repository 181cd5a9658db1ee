"""Sequences that a review found to go wrong, once."""

from __future__ import annotations

from pathlib import Path

from redis import Redis

from jobcache import CacheState, ChangeKind
from jobcache_refresher.scan.scope import Scope
from tests.contract.compare import assert_agrees, names_of
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import Names, delete_run, write_run

RUN: Names = ("p", "g", "n", "r1")
OTHER: Names = ("q", "g", "n", "r1")


def test_a_hold_does_not_end_when_a_part_comes_back(
    valkey: RunningServer, status_dir: Path, namespace: str
) -> None:
    for number in range(100):
        write_run(status_dir, ("p", "g", f"n{number % 10}", f"r{number}"))
    away = status_dir.parent / "away"
    away.mkdir()
    with Rig(valkey.url, status_dir, namespace, hold_minimum=5, hold_fraction=0.2) as rig:
        rig.refresh()
        for number in range(4):
            (status_dir / "p" / "g" / f"n{number}").rename(away / f"n{number}")
        rig.settle()
        assert rig.cache.meta()["held"] == "40"
        for number in range(3):
            (away / f"n{number}").rename(status_dir / "p" / "g" / f"n{number}")
        rig.settle()
        assert len(rig.cache.list_all_jobs(limit=None)) == 100
        assert rig.cache.freshness().state is CacheState.DEGRADED
        (away / "n3").rename(status_dir / "p" / "g" / "n3")
        rig.refresh(Scope.POLL)
        rig.refresh(Scope.POLL)
        assert rig.cache.freshness().state is CacheState.READY
        assert_agrees(rig)


def test_a_deleted_run_returns_though_the_root_was_away_just_then(valkey_rig: Rig) -> None:
    rig = valkey_rig
    for names in (RUN, OTHER):
        write_run(rig.status_dir, names)
    rig.refresh()
    rig.refresher.time.advance(30)
    rig.settle()
    rig.cache.delete_job(*RUN)
    rig.refresh(Scope.POLL)
    away = rig.status_dir.parent / "away"
    rig.status_dir.rename(away)
    rig.refresher.outwait_quarantines()
    rig.refresh()
    away.rename(rig.status_dir)
    rig.settle()
    assert_agrees(rig)


def test_what_a_new_leader_finds_is_news(valkey_rig: Rig) -> None:
    rig = valkey_rig
    write_run(rig.status_dir, RUN)
    rig.refresh()
    feed = rig.cache.changes(wait=0)
    assert list(feed) == []
    write_run(rig.status_dir, OTHER)
    rig.refresh()
    with Redis.from_url(rig.url) as redis:
        last = redis.xrevrange(rig.refresher.keys.changes, count=1)[0][0].decode()
    position = f"{rig.cache.freshness().epoch}/{last}"
    rig.__exit__()
    write_run(rig.status_dir, RUN, status="failed")
    with Rig(rig.url, rig.status_dir, rig.namespace) as again:
        again.refresh()
        (change,) = again.cache.changes(position, wait=0)
        assert (change.kind, change.id) == (ChangeKind.MODIFIED, RUN)


def test_a_root_that_holds_nothing_but_the_filesystems_trash_is_empty(valkey_rig: Rig) -> None:
    rig = valkey_rig
    write_run(rig.status_dir, RUN)
    rig.refresh()
    (rig.status_dir / ".trash").mkdir()
    (rig.status_dir / "p").rename(rig.status_dir.parent / "p")
    assert rig.refresh() is False
    assert rig.refresh() is False
    assert names_of(rig.cache.list_all_jobs()) == [RUN]


def test_a_project_that_became_a_link_is_not_followed(valkey_rig: Rig, tmp_path: Path) -> None:
    rig = valkey_rig
    for names in (RUN, OTHER):
        write_run(rig.status_dir, names)
    write_run(tmp_path / "elsewhere", RUN, job_key="secret")
    rig.refresh()
    (rig.status_dir / "p").rename(tmp_path / "p")
    (rig.status_dir / "p").symlink_to(tmp_path / "elsewhere" / "p")
    for _ in range(3):
        rig.refresh(Scope.POLL)
        assert "secret" not in {job.job_key for job in rig.cache.list_all_jobs()}
    delete_run(rig.status_dir, OTHER)
    assert rig.cache.get_job(*RUN) is None


def test_a_field_that_somebody_else_wrote_stops_nobody(valkey_rig: Rig) -> None:
    rig = valkey_rig
    write_run(rig.status_dir, RUN)
    write_run(rig.status_dir, OTHER)
    rig.refresh()
    with Redis.from_url(rig.url) as redis:
        redis.hset(rig.refresher.keys.full(b"job:" + "/".join(RUN).encode()), "status", "odd")
    assert len(rig.cache.list_all_jobs()) == 2
    rig.__exit__()
    with Rig(rig.url, rig.status_dir, rig.namespace) as again:
        again.settle()
        assert names_of(again.cache.list_all_jobs(project="q")) == [OTHER]
