"""Queries that replicas answer, with real primaries and replicas."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from jobcache import AsyncJobCache, CacheUnavailable, JobCache, JobStatus
from jobcache.connection.guard import HEARING, LONGEST_UNHEARD
from tests.contract.compare import assert_agrees, names_of
from tests.harness import Rig
from tests.integration.test_client_connections import assert_ended_well, in_child
from tests.servers import PLAIN_READER, WRITER, password_of, write_acl_file
from tests.topologies import Node, Pair, cluster_setup, eventually, pair, sentinel_setup
from tests.trees import Names, write_run

RUNS: list[Names] = [("p", "g", "n", "r1"), ("p", "g", "n", "r2"), ("q", "h", "n", "r1")]
NAMESPACE = "r"
ASKED = 20
MOST_OF_THEM = ASKED - 3


@pytest.fixture(scope="module")
def kept() -> Iterator[Pair]:
    """A pair for tests that leave it as it is."""
    with pair() as servers:
        yield servers


@pytest.fixture
def broken() -> Iterator[Pair]:
    """A pair for tests that do not."""
    with pair() as servers:
        yield servers


@contextmanager
def rigged(
    servers: Pair, tree: Path, *, url: str | None = None, namespace: str = NAMESPACE
) -> Iterator[Rig]:
    """A refresher that has published the tree, also to the replica."""
    for names in RUNS:
        write_run(tree, names)
    with Rig(url or servers.primary.url, tree, namespace) as rig:
        rig.settle()
        catch_up(rig, servers)
        yield rig


def catch_up(rig: Rig, servers: Pair) -> None:
    """Return once the replica has what the primary has."""
    meta = rig.refresher.keys.meta
    with servers.primary.client() as one, servers.replica.client() as other:
        if other.info("cluster")["cluster_enabled"]:
            other.execute_command("READONLY")
        eventually(lambda: one.hgetall(meta) == other.hgetall(meta))


def reading(servers: Pair, **options: object) -> JobCache:
    return JobCache(
        servers.primary.url,
        namespace=NAMESPACE,
        replica_url=servers.replica.url,
        **options,  # type: ignore[arg-type]
    )


@contextmanager
def stopped(node: Node) -> Iterator[None]:
    """A node that hangs."""
    os.kill(node.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(node.process.pid, signal.SIGCONT)


def calls_of(node: Node, *commands: str) -> int:
    with node.client() as client:
        stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in commands)


def scripts_run(node: Node) -> int:
    return calls_of(node, "eval_ro", "evalsha_ro")


def asked_of(node: Node, ask: Callable[[], object], *commands: str) -> int:
    """How many of some calls came to a node."""
    commands = commands or ("eval_ro", "evalsha_ro")
    before = calls_of(node, *commands)
    for _ in range(ASKED):
        ask()
    return calls_of(node, *commands) - before


def state_of(cache: JobCache, names: Names) -> JobStatus | None:
    job = cache.get_job(*names)
    assert (job is None) == (names not in names_of(cache.list_all_jobs()))
    return None if job is None else job.status


class TestAnswers:
    def test_are_a_replicas_but_for_one_a_second(self, kept: Pair, status_dir: Path) -> None:
        with rigged(kept, status_dir), reading(kept) as cache:
            assert asked_of(kept.replica, cache.list_all_jobs) >= MOST_OF_THEM
            assert asked_of(kept.primary, cache.list_projects) <= ASKED - MOST_OF_THEM
            time.sleep(HEARING)
            before = scripts_run(kept.primary)
            cache.get_job(*RUNS[0])
            assert scripts_run(kept.primary) > before
            assert asked_of(kept.replica, cache.freshness) == 0

    def test_async(self, kept: Pair, status_dir: Path) -> None:
        async def ask() -> None:
            async with AsyncJobCache(
                kept.primary.url, namespace=NAMESPACE, replica_url=kept.replica.url
            ) as cache:
                for _ in range(ASKED):
                    assert set(names_of(await cache.list_all_jobs())) == set(RUNS)
                assert await cache.delete_job(*RUNS[0])
                assert await cache.get_job(*RUNS[0]) is None

        with rigged(kept, status_dir):
            before = scripts_run(kept.replica)
            asyncio.run(ask())
            assert scripts_run(kept.replica) - before >= MOST_OF_THEM

    def test_are_right(self, kept: Pair, status_dir: Path) -> None:
        with rigged(kept, status_dir) as rig:
            rig.cache.close()
            rig.cache = reading(kept, deadline=10)
            assert_agrees(rig)
            write_run(status_dir, RUNS[0], status="failed")
            rig.settle()
            catch_up(rig, kept)
            assert_agrees(rig)

    def test_in_a_child_as_well(self, kept: Pair, status_dir: Path) -> None:
        with rigged(kept, status_dir), reading(kept) as cache:
            cache.list_all_jobs()

            def work() -> None:
                assert asked_of(kept.replica, lambda: cache.get_job(*RUNS[0])) >= MOST_OF_THEM

            child = in_child(work)
            for _ in range(ASKED):
                assert set(names_of(cache.list_all_jobs())) == set(RUNS)
            assert_ended_well(child)

    def test_by_plain_commands(self, tmp_path: Path, status_dir: Path) -> None:
        """As the reader of deploy/redis/jobcache.acl, without scripts, and with the password of a file."""
        acl = write_acl_file(tmp_path)
        acl.write_text(acl.read_text() + "user default on >x ~* &* +@all\n")
        secret = tmp_path / "password"
        secret.write_text(password_of(PLAIN_READER))
        options = ("--aclfile", str(acl), "--masterauth", "x")
        with pair(*options, password="x") as servers:
            writer = f"redis://{WRITER}:{password_of(WRITER)}@{servers.primary.address}"
            with (
                rigged(servers, status_dir, url=writer),
                JobCache(
                    f"redis://{PLAIN_READER}@{servers.primary.address}",
                    namespace=NAMESPACE,
                    replica_url=f"redis://{PLAIN_READER}@{servers.replica.address}",
                    password_file=str(secret),
                ) as cache,
            ):
                assert set(names_of(cache.list_all_jobs())) == set(RUNS)
                assert set(names_of(cache.get_job_runs(*RUNS[0][:3]))) == set(RUNS[:2])
                assert asked_of(servers.replica, cache.list_all_jobs, "hmget") >= MOST_OF_THEM


class TestLag:
    def test_no_answer_is_older_than_the_primarys_word(
        self, broken: Pair, status_dir: Path
    ) -> None:
        with rigged(broken, status_dir) as rig, reading(broken) as cache:
            assert state_of(cache, RUNS[0]) is JobStatus.RUNNING
            broken.part()
            assert cache.delete_job(*RUNS[1])
            for _ in range(ASKED):
                assert state_of(cache, RUNS[1]) is None, "it was deleted"
            write_run(status_dir, RUNS[0], status="failed")
            rig.settle()
            assert cache.freshness().generation
            for _ in range(ASKED):
                assert state_of(cache, RUNS[0]) is JobStatus.FAILED, "the primary told of it"

            async def ask() -> None:
                async with AsyncJobCache(
                    broken.primary.url, namespace=NAMESPACE, replica_url=broken.replica.url
                ) as other:
                    assert await other.delete_job(*RUNS[0])
                    for _ in range(ASKED):
                        assert await other.get_job(*RUNS[0]) is None

            asyncio.run(ask())

    def test_what_others_write_shows_in_time(self, broken: Pair, status_dir: Path) -> None:
        """Though nobody told of it, and the replica never will."""
        with rigged(broken, status_dir) as rig, reading(broken) as cache:
            assert state_of(cache, RUNS[0]) is JobStatus.RUNNING
            broken.part()
            write_run(status_dir, RUNS[0], status="failed")
            rig.settle()
            began = time.monotonic()
            while state_of(cache, RUNS[0]) is not JobStatus.FAILED:
                assert time.monotonic() - began < LONGEST_UNHEARD
                time.sleep(0.02)
            for _ in range(ASKED):
                assert state_of(cache, RUNS[0]) is JobStatus.FAILED

    def test_another_epoch(self, broken: Pair, status_dir: Path) -> None:
        with rigged(broken, status_dir) as rig, reading(broken) as cache:
            broken.part()
            with broken.primary.client() as client:
                client.flushall()
            rig.refresher.close()
            with Rig(broken.primary.url, status_dir, NAMESPACE) as again:
                again.settle()
                epoch = cache.freshness().epoch
                for _ in range(ASKED):
                    cache.list_all_jobs()
                    assert cache.last_freshness
                    assert cache.last_freshness.epoch == epoch


class TestOutage:
    def test_a_replica_that_hangs_costs_its_share_once(
        self, broken: Pair, status_dir: Path
    ) -> None:
        with rigged(broken, status_dir), reading(broken) as cache:
            cache.list_all_jobs()
            with stopped(broken.replica):
                began = time.monotonic()
                for _ in range(ASKED):
                    assert set(names_of(cache.list_all_jobs())) == set(RUNS)
                assert 0.4 < time.monotonic() - began < 1.2
            eventually(lambda: asked_of(broken.replica, cache.list_all_jobs) >= MOST_OF_THEM)

    def test_a_replica_that_is_gone(self, broken: Pair, status_dir: Path) -> None:
        async def ask() -> None:
            cache = AsyncJobCache(
                broken.primary.url, namespace=NAMESPACE, replica_url=broken.replica.url
            )
            for _ in range(ASKED):
                assert set(names_of(await cache.list_all_jobs())) == set(RUNS)
            await cache.stop()

        with rigged(broken, status_dir), reading(broken) as cache:
            cache.list_all_jobs()
            broken.replica.kill()
            for _ in range(ASKED):
                assert set(names_of(cache.list_all_jobs())) == set(RUNS)
            asyncio.run(ask())

    def test_without_a_primary_replicas_soon_do_not_count(
        self, broken: Pair, status_dir: Path
    ) -> None:
        with rigged(broken, status_dir), reading(broken, deadline=0.2) as cache:
            cache.list_all_jobs()
            with stopped(broken.primary):
                since = time.monotonic()
                answers = 0
                while time.monotonic() - since < LONGEST_UNHEARD:
                    with suppress(CacheUnavailable):
                        answers += set(names_of(cache.list_all_jobs())) == set(RUNS)
                    time.sleep(0.02)
                assert answers
                for _ in range(ASKED):
                    with pytest.raises(CacheUnavailable):
                        cache.list_all_jobs()


def test_replicas_that_sentinels_name(status_dir: Path) -> None:
    with sentinel_setup(password="s3cret") as setup:
        primary, replica = setup.servers
        with (
            rigged(Pair(primary, replica), status_dir, url=setup.url),
            JobCache(
                setup.url, namespace=NAMESPACE, replica_url=f"{setup.url}?role=replica"
            ) as cache,
        ):
            assert asked_of(replica, cache.list_all_jobs) >= MOST_OF_THEM
            asyncio.run(ask_nearby(setup.url, replica))
            replica.kill()
            for _ in range(ASKED):
                assert set(names_of(cache.list_all_jobs())) == set(RUNS)


def test_replicas_of_a_cluster(status_dir: Path) -> None:
    with cluster_setup(NAMESPACE) as setup:
        primary, replica = setup.primaries[0], setup.replica
        with (
            rigged(Pair(primary, replica), status_dir, url=setup.url),
            JobCache(
                setup.url, namespace=NAMESPACE, replica_url=f"{setup.url}?role=replica"
            ) as cache,
        ):
            with setup.primaries[1].client() as other:
                eventually(lambda: str(replica.port) in str(other.execute_command("CLUSTER SLOTS")))
            assert asked_of(replica, cache.list_all_jobs) >= MOST_OF_THEM
            asyncio.run(ask_nearby(setup.url, replica))
            with setup.primaries[1].client() as other, replica.client() as client:
                client.execute_command(
                    "CLUSTER", "REPLICATE", other.execute_command("CLUSTER", "MYID")
                )
            for _ in range(ASKED):  # it says MOVED now, and the slot has no replica
                assert set(names_of(cache.list_all_jobs())) == set(RUNS)


async def ask_nearby(url: str, replica: Node) -> None:
    before = scripts_run(replica)
    async with AsyncJobCache(url, namespace=NAMESPACE, replica_url=url) as cache:
        for _ in range(ASKED):
            assert set(names_of(await cache.list_all_jobs())) == set(RUNS)
    assert scripts_run(replica) - before >= MOST_OF_THEM
