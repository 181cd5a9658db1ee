"""What a scan reads is published while it goes on, whatever happens to Redis, the filesystem or the jobs meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from jobcache import CacheNotReady, JobMetadata
from jobcache_refresher.publish.server import FencedError
from jobcache_refresher.scan.supervisor import StoppedError
from jobcache_refresher.scan.tree import Fingerprint, Tree
from tests.contract.compare import assert_agrees
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import Names, delete_run, write_run

RUNS: list[Names] = [("p", f"g{number % 3}", "n", f"r{number:03}") for number in range(120)]


class WatchedTree(Tree):
    """Calls a hook after so many reads, in the thread that scans."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.read: list[bytes] = []
        self.hooks: dict[int, Callable[[], object]] = {}

    def read_whole(
        self, path: bytes, name: bytes, cap: int, held: int | None = None
    ) -> tuple[Fingerprint, bytes]:
        result = super().read_whole(path, name, cap, held)
        self.read.append(path)
        self.hooks.pop(len(self.read), lambda: None)()
        return result


@pytest.fixture
def tree(status_dir: Path) -> WatchedTree:
    for names in RUNS:
        write_run(status_dir, names, status="completed")
    return WatchedTree(str(status_dir))


@pytest.fixture
def watched(
    valkey: RunningServer, status_dir: Path, namespace: str, tree: WatchedTree
) -> Iterator[Rig]:
    with Rig(valkey.url, status_dir, namespace, tree=tree) as rig:
        yield rig


def until(condition: Callable[[], Any]) -> None:
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends, "not within 10 s"
        time.sleep(0.01)


def published(rig: Rig) -> int:
    count: int = rig.refresher.server.ask(b"ZCARD", rig.refresher.keys.jobs)
    return count


def test_first_scan_publishes_while_it_goes_on(watched: Rig, tree: WatchedTree) -> None:
    def look() -> None:
        until(lambda: published(watched) >= 100)
        with pytest.raises(CacheNotReady):
            watched.cache.counts()

    tree.hooks[110] = look
    assert watched.refresh()
    assert not tree.hooks
    assert published(watched) == len(RUNS)
    assert_agrees(watched)


def test_first_scan_sums_active_chips_on_the_way(
    watched: Rig, tree: WatchedTree, status_dir: Path
) -> None:
    """Summed in the one step that ends the scan, those of 20,000 jobs would keep the server for 20 ms."""
    for names in RUNS:
        write_run(status_dir, names)
    chips: list[int] = []

    def look() -> None:
        until(lambda: published(watched) >= 100)
        chips.append(int(watched.refresher.store.field("active_chips") or 0))

    tree.hooks[110] = look
    watched.refresh()
    assert chips == [800]
    assert watched.cache.counts().active_chips == 8 * len(RUNS)
    assert_agrees(watched)


def test_scan_while_redis_fails_in_the_middle_loses_nothing(
    watched: Rig, tree: WatchedTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, steps = watched.refresher.server.run, 0

    def fail_after_one_step(script: Any, keys: Any, args: Any) -> Any:
        nonlocal steps
        steps += script.name == "apply"
        if script.name == "apply" and steps > 1:
            raise redis.ConnectionError("gone")
        return run(script, keys, args)

    watched.refresher.time.advance(10)  # what changed so recently is read again in any case
    monkeypatch.setattr(watched.refresher.server, "run", fail_after_one_step)
    with pytest.raises(redis.ConnectionError):
        watched.refresh()
    assert len(tree.read) == len(RUNS), "the scan is not cut off"
    assert steps == 2, "a server that failed is left alone"
    monkeypatch.undo()
    tree.read.clear()
    assert watched.refresh()
    assert 0 < len(tree.read) < len(RUNS), "what is published is not read again"
    assert_agrees(watched)


def test_scan_while_the_cache_is_lost_publishes_everything(
    watched: Rig, tree: WatchedTree, valkey: RunningServer
) -> None:
    """It is filled from memory first, which must not pass for what was read meanwhile."""
    watched.refresh()
    for names in RUNS[:60]:
        write_run(watched.status_dir, names, status="failed", start_time="2026-02-03T04:05:06")
    watched.refresher.time.advance(10)  # what changed so recently is read again in any case
    with valkey.client() as client:
        tree.hooks[len(tree.read) + 30] = lambda: client.delete(watched.refresher.keys.meta)
        watched.refresh()
    assert_agrees(watched)


@pytest.mark.parametrize("lost", ["nothing", "meta", "everything"])
def test_scan_while_the_lease_is_lost_is_published_once_it_leads_again(
    watched: Rig, valkey: RunningServer, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """What was read and not published is read again by the same refresher when it leads again."""
    refresher = watched.refresher
    if lost != "everything":
        delete_run(watched.status_dir, RUNS[0])
        watched.refresh()
        write_run(watched.status_dir, RUNS[0], status="completed")
        for names in RUNS[1:90]:
            write_run(watched.status_dir, names, status="failed")
    refresher.time.advance(10)  # what changed so recently is read again in any case
    run, steps = refresher.server.run, 0

    def lose_the_lease(script: Any, keys: Any, args: Any) -> Any:
        nonlocal steps
        steps += script.name == "apply"
        if script.name == "apply" and steps > 1:
            raise FencedError("in the middle")
        return run(script, keys, args)

    monkeypatch.setattr(refresher.server, "run", lose_the_lease)
    with pytest.raises(FencedError):
        watched.refresh()
    monkeypatch.undo()
    refresher.lease.drop()
    with valkey.client() as client:
        client.delete(refresher.keys.lease)
        if lost == "meta":
            client.delete(refresher.keys.meta)
        elif lost == "everything":
            client.delete(*client.scan_iter(refresher.keys.prefix + b"*"))
    refresher.lead()
    watched.refresh()
    assert_agrees(watched)


def test_scan_that_fails_in_the_middle_loses_nothing(watched: Rig, tree: WatchedTree) -> None:
    def stop() -> None:
        until(lambda: published(watched) >= 100)
        raise StoppedError("in the middle")

    examine = watched.refresher.scanner._reader.examine

    def examine_until(run: Any, **options: Any) -> Any:
        if len(tree.read) == 110:
            stop()
        return examine(run, **options)

    watched.refresher.scanner._reader.examine = examine_until  # type: ignore[method-assign]
    with pytest.raises(StoppedError):
        watched.refresh()
    assert published(watched) == 100
    watched.refresher.scanner._reader.examine = examine  # type: ignore[method-assign]
    assert watched.refresh()
    assert_agrees(watched)


def test_job_deleted_right_after_the_scan_published_it_stays_away(
    watched: Rig, tree: WatchedTree, status_dir: Path
) -> None:
    watched.refresh()
    for names in RUNS:
        write_run(status_dir, names, status="failed")
    victims: list[Names] = []

    def failed() -> list[JobMetadata]:
        return watched.cache.list_all_jobs(status="failed", limit=None)

    def delete() -> None:
        until(lambda: len(failed()) >= 100)
        job = failed()[0]
        victims.append((job.project, job.group, job.name, job.run_id))
        assert watched.cache.delete_job(*victims[0])
        delete_run(status_dir, victims[0])

    tree.read.clear()
    tree.hooks[110] = delete
    watched.refresh()
    assert watched.cache.get_job(*victims[0]) is None
    watched.refresher.outwait_quarantines()
    watched.refresher.settle()
    assert watched.cache.counts().total_jobs == len(RUNS) - 1
    assert_agrees(watched)


def test_jobs_deleted_before_their_step_leave_its_others_alone(
    watched: Rig, tree: WatchedTree, status_dir: Path
) -> None:
    watched.refresh()
    for names in RUNS:
        write_run(status_dir, names, status="failed")

    def delete() -> None:
        for names in RUNS[::2]:
            watched.cache.delete_job(*names)
            delete_run(status_dir, names)

    tree.read.clear()
    tree.hooks[1] = delete
    watched.refresh()
    left = {names[3] for names in RUNS[1::2]}
    assert {job.run_id for job in watched.cache.list_all_jobs(limit=None)} == left
    assert watched.cache.counts().failed == len(left)
    watched.settle()
    assert_agrees(watched)
