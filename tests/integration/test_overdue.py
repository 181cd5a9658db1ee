"""A refresher that is dead, hangs or is too late shows as degraded, with the reason, wherever one asks."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobcache import AsyncJobCache, CacheState, Freshness, JobCache
from jobcache.web import JobApi
from jobcache_refresher import Refresher
from jobcache_refresher.overdue import LEAST_BOUND
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.tree import Directory
from tests.faults.faulty import FaultyTree, under
from tests.harness import Rig
from tests.integration.living import alive, free_port, metrics_at, wait_for
from tests.programs import JOBCACHE, REFRESHER, environment, run
from tests.servers import RunningServer
from tests.trees import Names, write_run

RUN: Names = ("p", "g", "n", "r1")
OVERDUE = r"the last scan completed \d+ s ago, one is due every 1 s"
NOBODY = "; no refresher leads"
LONG_AGO = 100.0
OF_LAST_SCAN = {
    "jobcache_jobs",
    "jobcache_errors",
    "jobcache_held_deletions",
    "jobcache_scan_seconds",
    "jobcache_completed_timestamp_seconds",
}


@pytest.fixture
def trees(monkeypatch: pytest.MonkeyPatch) -> list[FaultyTree]:
    """The trees of the refreshers that are made from now on."""
    made: list[FaultyTree] = []

    def make(root: str) -> FaultyTree:
        made.append(SlowTree(root))
        return made[-1]

    monkeypatch.setattr("jobcache_refresher.engine.Tree", make)
    return made


class SlowTree(FaultyTree):
    """Takes its time to list a directory."""

    delay = 0.0

    def list_directory(self, path: bytes, *, with_mtimes: bool = False) -> Directory:
        time.sleep(self.delay)
        return super().list_directory(path, with_mtimes=with_mtimes)


@contextmanager
def program(
    server: RunningServer, status_dir: Path, namespace: str, *more: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A refresher in a process of its own that polls every second."""
    target = ("--url", server.url, "--namespace", namespace, "--status-dir", str(status_dir))
    command = [*REFRESHER, "run", *target, "--poll-interval", "1", "--lease-ttl", "1", *more]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment()) as process:
        try:
            yield process
        finally:
            process.kill()


def age_meta(rig: Rig, seconds: float, **fields: Any) -> None:
    """Make the last scan look as if it had completed so many seconds ago."""
    rig.refresher.server.ask(
        b"HSET", rig.refresher.keys.meta, "completed_at", repr(time.time() - seconds)
    )
    rig.refresher.server.ask(b"HDEL", rig.refresher.keys.meta, "reported_at")
    for name, value in fields.items():
        rig.refresher.server.ask(b"HSET", rig.refresher.keys.meta, name, value)


def is_overdue(fresh: Freshness | None) -> bool:
    assert fresh is not None
    told = re.search(r"the last scan completed \d+ s ago", fresh.reason or "") is not None
    assert told == (fresh.state is CacheState.DEGRADED), fresh
    return told


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_every_surface_tells_of_a_refresher_that_died_or_stopped(
    valkey: RunningServer, status_dir: Path, namespace: str, how: signal.Signals
) -> None:
    write_run(status_dir, RUN)
    target = ("--url", valkey.url, "--namespace", namespace)
    with (
        program(valkey, status_dir, namespace) as victim,
        JobCache(valkey.url, namespace=namespace, ready_timeout=20) as cache,
    ):
        assert run(REFRESHER, "check", *target, "--status-dir", "/").returncode == 0
        assert cache.freshness().state is CacheState.READY
        victim.send_signal(how)
        wait_for(lambda: is_overdue(cache.freshness()), timeout=4.5)
        # The lease ended a second after the process did.
        for fresh in _told_by(cache, valkey.url, namespace):
            assert fresh.state is CacheState.DEGRADED
            assert re.fullmatch(OVERDUE + NOBODY, fresh.reason or ""), fresh
        document = json.loads(run(JOBCACHE, *target, "info", "--json").stdout)
        assert document["state"] == "degraded"
        assert re.fullmatch(OVERDUE + NOBODY, document["reason"])
        shown = run(JOBCACHE, *target, "info").stdout
        assert "degraded" in shown
        assert re.search(OVERDUE + NOBODY, shown)
        checked = run(REFRESHER, "check", *target, "--status-dir", "/")
        assert checked.returncode == 1
        assert re.search("degraded, " + OVERDUE + NOBODY, checked.stderr), checked
        answered = asyncio.run(_health(valkey.url, namespace))
        assert answered.status_code == 200
        assert answered.headers["X-Jobcache-State"] == "degraded"
        assert re.fullmatch(OVERDUE + NOBODY, answered.json()["reason"])
        if how is signal.SIGSTOP:
            victim.send_signal(signal.SIGCONT)
        else:
            victim.wait()
            _run_another(valkey, status_dir, namespace)
        wait_for(lambda: cache.freshness().state is CacheState.READY, timeout=10)
        assert cache.freshness().reason is None


def _told_by(cache: JobCache, url: str, namespace: str) -> Iterator[Freshness]:
    yield cache.freshness()
    yield cache.page().freshness
    for ask in (
        cache.list_all_jobs,
        cache.get_running_jobs,
        cache.get_recent_jobs,
        cache.list_projects,
        cache.get_dashboard_stats,
        lambda: cache.get_job(*RUN),
    ):
        for _ in range(2):  # the second answer is one that is known
            ask()
            assert cache.last_freshness is not None
            yield cache.last_freshness

    async def ask_async() -> list[Freshness | None]:
        async with AsyncJobCache(url, namespace=namespace) as other:
            await other.list_all_jobs()
            return [other.last_freshness, await other.freshness()]

    for fresh in asyncio.run(ask_async()):
        assert fresh is not None
        yield fresh


async def _health(url: str, namespace: str) -> httpx.Response:
    async with AsyncJobCache(url, namespace=namespace) as cache:
        transport = httpx.ASGITransport(JobApi(cache))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/api/health")


def _run_another(server: RunningServer, status_dir: Path, namespace: str) -> None:
    refresher = Refresher(status_dir, url=server.url, namespace=namespace, lease_ttl=1)
    refresher.refresh_once()


class TestBound:
    def test_bound_is_three_polls_or_what_the_slowest_scan_allows(
        self, valkey_rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def bound() -> float:
            return float(valkey_rig.cache.meta()["overdue_after"])

        valkey_rig.refresh()
        assert bound() == 30
        list_directory = valkey_rig.refresher.tree.list_directory

        def slow(path: bytes, **options: Any) -> Directory:
            monkeypatch.setattr(valkey_rig.refresher.tree, "list_directory", list_directory)
            valkey_rig.refresher.time.advance(20)
            return list_directory(path, **options)

        monkeypatch.setattr(valkey_rig.refresher.tree, "list_directory", slow)
        valkey_rig.refresh()
        for _ in range(9):
            assert 70 <= bound() < 75
            valkey_rig.refresh(Scope.POLL)
        valkey_rig.refresh(Scope.POLL)
        assert bound() == 30

    def test_is_the_same_while_events_tell_of_changes(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        settings: dict[str, Any] = {"mode": "watchdog", "poll_interval": 2}
        with alive(valkey, status_dir, namespace, **settings) as (_, cache):
            meta = cache.meta()
            assert (meta["mode"], meta["poll_interval"]) == ("watchdog", "2")
            assert float(meta["overdue_after"]) == 6

    def test_bound_is_told_when_published_from_memory(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN)
        tree = FaultyTree(str(status_dir))
        with Rig(valkey.url, status_dir, namespace, tree=tree) as rig:
            rig.refresh()
            rig.refresher.server.ask(b"DEL", rig.refresher.keys.meta)
            tree.fail(errno.EIO, under(""))
            assert not rig.refresh()
            assert rig.cache.list_all_jobs()
            assert float(rig.cache.meta()["overdue_after"]) == 30


class TestJudgement:
    def test_judgement_goes_by_the_bound_that_the_refresher_wrote(self, valkey_rig: Rig) -> None:
        valkey_rig.refresh()
        age_meta(valkey_rig, 25)
        assert not is_overdue(valkey_rig.cache.freshness())
        age_meta(valkey_rig, 35)
        fresh = valkey_rig.cache.freshness()
        assert fresh.reason == "the last scan completed 35 s ago, one is due every 10 s"
        age_meta(valkey_rig, 35, overdue_after="50")
        assert not is_overdue(valkey_rig.cache.freshness())

    def test_judgement_stands_beside_the_refreshers_reason(self, valkey_rig: Rig) -> None:
        valkey_rig.refresh()
        age_meta(valkey_rig, LONG_AGO, state="degraded", reason="a disk is on fire")
        reason = valkey_rig.cache.freshness().reason or ""
        assert reason.startswith("a disk is on fire; the last scan completed")

    @pytest.mark.parametrize("junk", [b"", b"soon", b"nan", b"inf", b"-1", b"0", b"\xff", b"1e999"])
    def test_judgement_of_junk_is_none(self, valkey_rig: Rig, junk: bytes) -> None:
        valkey_rig.refresh()
        age_meta(valkey_rig, LONG_AGO, overdue_after=junk)
        assert not is_overdue(valkey_rig.cache.freshness())
        age_meta(valkey_rig, LONG_AGO, overdue_after="30", poll_interval=junk, reported_at=junk)
        assert is_overdue(valkey_rig.cache.freshness())
        valkey_rig.refresher.store.report({"scanned": "1", "total": "2"})

    def test_judgement_of_an_older_refresher_is_none(self, valkey_rig: Rig) -> None:
        valkey_rig.refresh()
        age_meta(valkey_rig, LONG_AGO)
        valkey_rig.refresher.server.ask(b"HDEL", valkey_rig.refresher.keys.meta, "overdue_after")
        assert not is_overdue(valkey_rig.cache.freshness())

    def test_judgement_of_a_scan_that_shows_progress_is_slow(self, valkey_rig: Rig) -> None:
        valkey_rig.refresh()
        age_meta(valkey_rig, 25)
        valkey_rig.refresher.store.report({"scanned": "1", "total": "2"})
        valkey_rig.refresher.server.ask(
            b"HSET", valkey_rig.refresher.keys.meta, "completed_at", repr(time.time() - LONG_AGO)
        )
        assert not is_overdue(valkey_rig.cache.freshness())
        valkey_rig.refresher.lease.release()
        assert is_overdue(valkey_rig.cache.freshness()), "nobody is there who could be slow"

    def test_judgement_of_a_scan_overdue_before_its_progress_stays_until_it_completes(
        self, valkey_rig: Rig
    ) -> None:
        valkey_rig.refresh()
        age_meta(valkey_rig, LONG_AGO)
        valkey_rig.refresher.store.report({"scanned": "1", "total": "2"})
        assert is_overdue(valkey_rig.cache.freshness())
        valkey_rig.refresh()
        assert not is_overdue(valkey_rig.cache.freshness())


class TestLive:
    def test_a_long_scan_that_goes_on_is_not_overdue(
        self, valkey: RunningServer, status_dir: Path, namespace: str, trees: list[SlowTree]
    ) -> None:
        for number in range(40):
            write_run(status_dir, ("p", f"g{number}", "n", "r1"))
        settings: dict[str, Any] = {"relist_interval": 3600, "scan_threads": 1}
        with alive(valkey, status_dir, namespace, **settings) as (refresher, cache):
            bound = float(cache.meta()["overdue_after"])
            assert bound == LEAST_BOUND
            trees[0].delay = 0.1
            cache.refresh()
            oldest = 0.0
            while oldest < 2 * bound:
                fresh = cache.freshness()
                assert not is_overdue(fresh), fresh
                assert not refresher.status.overdue
                assert fresh.age is not None
                oldest = max(oldest, fresh.age)
                time.sleep(0.02)
            # And one that hangs before anybody can tell is.
            trees[0].go_on.clear()
            wait_for(lambda: is_overdue(cache.freshness()))
            assert "no refresher" not in (cache.freshness().reason or "")
            assert refresher.leads
            assert refresher.status.overdue
            trees[0].delay = 0.0
            trees[0].go_on.set()
            wait_for(lambda: not is_overdue(cache.freshness()))

    def test_a_leader_whose_filesystem_hangs_does_not_call_itself_well(
        self,
        valkey: RunningServer,
        status_dir: Path,
        namespace: str,
        trees: list[SlowTree],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        write_run(status_dir, RUN)
        port = free_port()
        caplog.set_level(logging.INFO)
        settings: dict[str, Any] = {"hang_timeout": 0.3, "metrics_port": port}
        with alive(valkey, status_dir, namespace, **settings) as (refresher, cache):
            assert metrics_at(port).keys() >= OF_LAST_SCAN
            trees[0].go_on.clear()
            wait_for(lambda: not refresher.leads)
            assert cache.freshness().state is CacheState.DEGRADED
            assert "hangs" in (cache.freshness().reason or "")
            for _ in range(15):  # some turns of a standby
                time.sleep(0.1)
                assert "hangs" in (refresher.status.degraded or "")
                found = metrics_at(port)
                assert found["jobcache_degraded"] == 1
                assert found["jobcache_leader"] == 0
                assert not found.keys() & OF_LAST_SCAN
            assert refresher.status.jobs == 0
            assert "no longer degraded" not in caplog.text
            wait_for(lambda: NOBODY in (cache.freshness().reason or ""))
            trees[0].go_on.set()
            wait_for(lambda: cache.freshness().state is CacheState.READY)
            assert "no longer degraded" in caplog.text
            found = metrics_at(port)
            assert (found["jobcache_degraded"], found["jobcache_jobs"]) == (0, 1)

    def test_a_leader_that_became_a_standby_tells_nothing_of_its_past(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN)
        port = free_port()
        lease = f"jobcache:{{{namespace}}}:lease"
        with (
            alive(valkey, status_dir, namespace, metrics_port=port) as (refresher, _),
            valkey.client() as redis,
        ):
            assert metrics_at(port).keys() >= OF_LAST_SCAN
            redis.set(lease, "another 1", px=60_000)
            wait_for(lambda: not refresher.leads)
            wait_for(lambda: metrics_at(port)["jobcache_leadership_lost_total"] == 1)
            assert not metrics_at(port).keys() & OF_LAST_SCAN
            assert refresher.status.completed_at == 0
            redis.delete(lease)
            wait_for(lambda: metrics_at(port).keys() >= OF_LAST_SCAN)
