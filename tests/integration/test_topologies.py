"""Sentinel and Cluster, with real processes: every answer, and what a failover costs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from redis.crc import key_slot

from jobcache import (
    AsyncJobCache,
    CacheNotReady,
    CacheUnavailable,
    ChangeKind,
    ConfigError,
    JobCache,
)
from jobcache_refresher import Refresher
from jobcache_refresher.scan.scope import Scope
from tests.contract.compare import assert_agrees, names_of
from tests.harness import Rig
from tests.programs import JOBCACHE, run
from tests.topologies import ClusterSetup, Node, SentinelSetup, cluster_setup, sentinel_setup
from tests.trees import Names, write_run

RUNS: list[Names] = [("p", "g", "n", "r1"), ("p", "g", "n", "r2"), ("q", "h", "n", "r1")]
NEW: Names = ("p", "g", "n", "r3")
QUIET = "quiet"
RECOVERY = 15.0
"""Seconds; a failover itself takes two or three with these servers' settings."""
BEGINNING = "0/0-0"
"""A position of the change feed of another epoch: the first change to read says so."""
LONGEST = 2.5
"""Seconds that a call may take: the deadline of 1 s for the search, and for the exchange."""


@pytest.fixture
def sentinel() -> Iterator[SentinelSetup]:
    with sentinel_setup(password="s3cret") as setup:
        yield setup


@pytest.fixture(scope="module")
def quiet_sentinel() -> Iterator[SentinelSetup]:
    """One for tests that break nothing."""
    with sentinel_setup(password="s3cret") as setup:
        yield setup


@pytest.fixture(scope="module")
def quiet_cluster() -> Iterator[ClusterSetup]:
    """One for tests that break nothing; its first node serves the namespace ``QUIET``."""
    with cluster_setup(QUIET) as setup:
        yield setup


@pytest.fixture
def cluster_namespace() -> str:
    return f"c-{uuid4().hex[:8]}"


@pytest.fixture
def cluster(cluster_namespace: str) -> Iterator[ClusterSetup]:
    with cluster_setup(cluster_namespace) as setup:
        yield setup


@pytest.fixture
def tree(status_dir: Path) -> Path:
    for number, names in enumerate(RUNS):
        write_run(status_dir, names, status=("running", "failed")[number % 2])
    return status_dir


async def run_ids(url: str, namespace: str) -> set[str]:
    async with AsyncJobCache(url, namespace=namespace) as cache:
        await cache.get_running_jobs()
        return {job.run_id for job in await cache.list_all_jobs()}


def assert_every_call(url: str, namespace: str, tree: Path) -> None:
    with Rig(url, tree, namespace) as rig:
        rig.settle()
        assert_agrees(rig)
        assert asyncio.run(run_ids(url, namespace)) == {"r1", "r2"}
        write_run(tree, RUNS[0], status="completed")
        rig.settle()
        position = next(iter(rig.cache.changes(since=BEGINNING, wait=0))).position
        assert rig.cache.meta()["state"] == "ready"
        rig.cache.invalidate(*RUNS[0])
        assert rig.cache.delete_job(*RUNS[1])
        assert rig.cache.get_job(*RUNS[1]) is None
        assert list(rig.cache.changes(since=position, wait=0))[-1].kind is ChangeKind.DELETED
        rig.refresh(Scope.HINTS)
        rig.refresher.outwait_quarantines()
        rig.settle()
        assert_agrees(rig)


def assert_recovers(url: str, namespace: str, tree: Path, fail: Callable[[], None]) -> None:
    """Refresher, sync and async client go on by themselves after a failover."""
    with (
        Refresher(tree, url=url, namespace=namespace, poll_interval=0.2, relist_interval=0.2),
        JobCache(url, namespace=namespace) as cache,
    ):
        assert len(cache.list_all_jobs()) == len(RUNS)
        time.sleep(1.0)  # replication is asynchronous; what it loses is told, and rebuilt
        fail()
        write_run(tree, NEW)
        began = time.monotonic()
        errors = []
        while True:
            asked = time.monotonic()
            try:
                if NEW in names_of(cache.list_all_jobs()):
                    break
            except (CacheUnavailable, CacheNotReady) as error:
                errors.append(str(error))
            assert time.monotonic() - asked < LONGEST
            assert time.monotonic() - began < RECOVERY, "it did not recover"
            time.sleep(0.05)
        assert asyncio.run(run_ids(url, namespace)) == {"r1", "r2", "r3"}
        assert cache.delete_job(*NEW)
        assert "s3cret" not in "".join(errors)


class TestSentinel:
    def test_every_call_answers(
        self, quiet_sentinel: SentinelSetup, namespace: str, tree: Path
    ) -> None:
        assert_every_call(quiet_sentinel.url, namespace, tree)
        shown = run(JOBCACHE, "--url", quiet_sentinel.url, "--namespace", namespace, "info")
        assert shown.returncode == 0, shown
        assert "s3cret" not in shown.stdout

    def test_primary_that_dies_is_replaced(
        self, sentinel: SentinelSetup, namespace: str, tree: Path
    ) -> None:
        assert_recovers(sentinel.url, namespace, tree, sentinel.primary().kill)

    def test_primary_that_hangs_and_comes_back_is_not_read_from(
        self, sentinel: SentinelSetup, namespace: str, tree: Path
    ) -> None:
        primary = sentinel.primary()
        try:
            assert_recovers(sentinel.url, namespace, tree, lambda: _signal(primary, signal.SIGSTOP))
        finally:
            _signal(primary, signal.SIGCONT)
        with JobCache(sentinel.url, namespace=namespace) as cache:
            for _ in range(20):
                assert names_of(cache.get_job_runs("p", "g", "n"))
                assert cache.get_job(*NEW) is None  # deleted on the new primary only
                time.sleep(0.05)

    def test_failover_by_hand_is_followed(
        self, sentinel: SentinelSetup, namespace: str, tree: Path
    ) -> None:
        def fail_over() -> None:
            with sentinel.sentinels[0].client() as client:
                client.execute_command("SENTINEL FAILOVER", "jobs")

        assert_recovers(sentinel.url, namespace, tree, fail_over)

    def test_sentinels_that_are_away_are_passed_over(
        self, sentinel: SentinelSetup, namespace: str, tree: Path
    ) -> None:
        sentinel.sentinels[0].kill()
        _signal(sentinel.sentinels[1], signal.SIGSTOP)
        with Rig(sentinel.url, tree, namespace) as rig:
            rig.settle()
        with JobCache(sentinel.url, namespace=namespace) as cache:
            began = time.monotonic()
            assert len(cache.list_all_jobs()) == len(RUNS)
            assert time.monotonic() - began < LONGEST
        sentinel.sentinels[2].kill()
        with pytest.raises(CacheUnavailable, match="no node found to talk to"):
            cache.list_all_jobs()

    def test_unknown_service_is_named(self, quiet_sentinel: SentinelSetup) -> None:
        cache = JobCache(quiet_sentinel.url.replace("/jobs", "/other"))
        with pytest.raises(CacheUnavailable, match="knows none"):
            cache.list_all_jobs()

    def test_a_replica_is_not_taken_for_the_primary(self, sentinel: SentinelSetup) -> None:
        """As by a Sentinel that has not heard of a failover."""
        for one in sentinel.sentinels:
            with one.client() as client:
                client.execute_command("SENTINEL REMOVE", "jobs")
                replica = sentinel.servers[1].port
                client.execute_command("SENTINEL MONITOR", "jobs", "127.0.0.1", replica, 2)
        cache = JobCache(sentinel.url)
        with pytest.raises(CacheUnavailable, match="is no primary"):
            cache.freshness()

        async def ask() -> None:
            await AsyncJobCache(sentinel.url).freshness()

        with pytest.raises(CacheUnavailable, match="is no primary"):
            asyncio.run(ask())


class TestCluster:
    def test_every_call_answers(self, quiet_cluster: ClusterSetup, tree: Path) -> None:
        assert_every_call(quiet_cluster.url, QUIET, tree)

    def test_namespaces_are_spread_over_the_nodes(
        self, quiet_cluster: ClusterSetup, tree: Path
    ) -> None:
        for number in range(6):
            with Rig(quiet_cluster.url, tree, f"spread-{number}") as rig:
                rig.settle()
                assert_agrees(rig)
        sizes = []
        for node in quiet_cluster.primaries:
            with node.client() as client:
                sizes.append(client.dbsize())
        assert all(sizes)

    def test_primary_that_dies_is_replaced(
        self, cluster: ClusterSetup, cluster_namespace: str, tree: Path
    ) -> None:
        assert_recovers(cluster.url, cluster_namespace, tree, cluster.primaries[0].kill)

    def test_seed_that_dies_is_not_needed(
        self, cluster: ClusterSetup, cluster_namespace: str, tree: Path
    ) -> None:
        """Its own slots are gone; the namespace lies in another's."""
        cluster.serve_what_is_left()
        cluster.primaries[1].kill()
        cluster.await_loss(cluster.primaries[1])
        assert_recovers(cluster.url, cluster_namespace, tree, lambda: None)

    def test_cluster_that_is_down_for_a_while_comes_back(
        self, cluster: ClusterSetup, cluster_namespace: str, tree: Path
    ) -> None:
        """As it is, by default, while the slots of any node are not served."""
        other = cluster.primaries[1]

        def fail() -> None:
            _signal(other, signal.SIGSTOP)
            cluster.await_state("fail")
            with pytest.raises(CacheUnavailable, match="The cluster is down"):
                JobCache(cluster.url, namespace=cluster_namespace).list_all_jobs()
            _signal(other, signal.SIGCONT)

        assert_recovers(cluster.url, cluster_namespace, tree, fail)

    def test_slot_that_moves_is_followed(
        self, cluster: ClusterSetup, cluster_namespace: str, tree: Path
    ) -> None:
        """While its keys are on two nodes no answer is given; never one with jobs missing."""
        with Rig(cluster.url, tree, cluster_namespace) as rig:
            rig.settle()
            move = SlotMove(cluster.primaries[0], cluster.primaries[1], cluster_namespace)
            move.begin()
            answers = failures = 0
            while move.move_one():
                for call in (rig.cache.list_all_jobs, rig.cache.list_projects):
                    try:
                        found = call()
                    except CacheUnavailable:
                        failures += 1
                    else:
                        answers += 1
                        assert len(found) == (3 if call == rig.cache.list_all_jobs else 2)
            move.end()
            assert failures
            assert_agrees(rig)
            write_run(tree, NEW)
            rig.settle()
            assert_agrees(rig)
            assert asyncio.run(run_ids(cluster.url, cluster_namespace)) == {"r1", "r2", "r3"}


class SlotMove:
    """A slot on its way from one primary to another."""

    def __init__(self, source: Node, target: Node, namespace: str) -> None:
        self.slot = key_slot(f"{{{namespace}}}".encode())
        self.source, self.target = source.client(), target.client()
        self.port = target.port
        self.ids = [
            client.execute_command("CLUSTER", "MYID") for client in (self.source, self.target)
        ]

    def begin(self) -> None:
        self.target.execute_command("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self.ids[0])
        self.source.execute_command("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self.ids[1])

    def move_one(self) -> bool:
        """Move a key; False when there is none left."""
        keys = self.source.execute_command("CLUSTER", "GETKEYSINSLOT", self.slot, 1)
        if keys:
            self.source.execute_command("MIGRATE", "127.0.0.1", self.port, keys[0], 0, 5000)
        return bool(keys)

    def end(self) -> None:
        for client in (self.target, self.source):
            client.execute_command("CLUSTER", "SETSLOT", self.slot, "NODE", self.ids[1])
            client.close()


def _signal(node: Node, number: signal.Signals) -> None:
    os.kill(node.process.pid, number)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://h:1", "name the service"),
        ("redis+sentinel:///jobs", "name the hosts"),
        ("redis+sentinel://h:1,,i:2/jobs", "name the hosts"),
        ("redis+sentinel://h:port/jobs", "port"),
        ("redis+cluster://h:1/3", "no databases"),
        ("redis+cluster://h:1?db=3", "no databases"),
        ("redis+ring://h:1", "use a URL like"),
        ("unix+cluster:///x", "use a URL like"),
        ("http+cluster://h", "use a URL like"),
    ],
)
def test_url_that_cannot_be_used_is_a_config_error(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        JobCache(url)
