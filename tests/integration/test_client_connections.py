"""No connection is leaked, shared or left with half a reply on it: by threads, forks, event loops, cancelled tasks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jobcache import AsyncJobCache, CacheUnavailable, JobCache
from tests.harness import Rig
from tests.servers import RunningServer, running_server
from tests.trees import Names, write_run

NAMESPACE = "connections"
RUNS: list[Names] = [("p", "g", f"n{number}", "r") for number in range(40)]
POOL = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of this module's own that holds jobs, and nobody is connected to."""
    status_dir = tmp_path_factory.mktemp("connections") / "status"
    for names in RUNS:
        write_run(status_dir, names)
    with running_server("valkey-9") as server:
        with Rig(server.url, status_dir, NAMESPACE) as rig:
            rig.settle()
        yield server


@pytest.fixture(autouse=True)
def nobody_stays(server: RunningServer) -> Iterator[None]:
    """Whatever a test did, nobody is connected when its clients are gone."""
    assert eventually(lambda: connections(server), 0) == 0
    yield
    gc.collect()
    assert eventually(lambda: connections(server), 0) == 0


def connections(server: RunningServer) -> int:
    """How many connections of clients the server has."""
    return len(ids(server))


def ids(server: RunningServer) -> set[str]:
    with server.client() as client:
        return {one["id"] for one in client.client_list() if one["name"] == "jobcache"}


def eventually(count: Callable[[], int], wanted: int) -> int:
    """A count, as soon as it is what is wanted, or at last."""
    ends = time.monotonic() + 3
    while (found := count()) != wanted and time.monotonic() < ends:
        time.sleep(0.01)
    return found


def sync_cache(server: RunningServer, **options: Any) -> JobCache:
    return JobCache(
        server.url, namespace=NAMESPACE, max_connections=POOL, **{"deadline": 5.0, **options}
    )


def async_cache(server: RunningServer, **options: Any) -> AsyncJobCache:
    return AsyncJobCache(
        server.url, namespace=NAMESPACE, max_connections=POOL, **{"deadline": 5.0, **options}
    )


def ask(cache: JobCache, rng: random.Random) -> None:
    """A query whose answer would not fit another."""
    names = rng.choice(RUNS)
    job = cache.get_job(*names)
    assert job is not None
    assert job.name == names[2]
    limit = rng.randrange(1, 5)
    assert len(cache.list_all_jobs(limit=limit)) == limit


async def ask_async(cache: AsyncJobCache, rng: random.Random) -> None:
    names = rng.choice(RUNS)
    job = await cache.get_job(*names)
    assert job is not None
    assert job.name == names[2]
    limit = rng.randrange(1, 5)
    assert len(await cache.list_all_jobs(limit=limit)) == limit


def in_child(work: Callable[[], None]) -> int:
    """Fork; the child works and ends; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def assert_ended_well(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


class TestThreads:
    def test_threads_more_than_the_pool_share_it(self, server: RunningServer) -> None:
        cache = sync_cache(server)

        def work(seed: int) -> None:
            rng = random.Random(seed)
            for _ in range(20):
                ask(cache, rng)

        with ThreadPoolExecutor(24) as pool:
            list(pool.map(work, range(24)))
        assert 1 <= connections(server) <= POOL
        cache.close()
        assert eventually(lambda: connections(server), 0) == 0
        ask(cache, random.Random(1))
        assert connections(server) == 1
        cache.close()

    def test_threads_that_ask_in_turn_use_one_connection(self, server: RunningServer) -> None:
        cache = sync_cache(server)
        for seed in range(20):
            ask(cache, random.Random(seed))
        assert connections(server) == 1
        cache.close()

    def test_close_while_others_query(self, server: RunningServer) -> None:
        """Each answer is right, none is an error, and nothing stays."""
        cache = sync_cache(server)
        ended = threading.Event()

        def work(seed: int) -> None:
            rng = random.Random(seed)
            while not ended.is_set():
                ask(cache, rng)

        with ThreadPoolExecutor(6) as pool:
            working = [pool.submit(work, seed) for seed in range(6)]
            for _ in range(40):
                time.sleep(0.01)
                cache.close()
            ended.set()
            for one in working:
                one.result()
        cache.close()
        assert eventually(lambda: connections(server), 0) == 0

    def test_close_lets_a_query_end_and_then_closes(self, server: RunningServer) -> None:
        cache = sync_cache(server)
        cache.counts()  # so that the server knows the script, and the next one is one exchange
        with server.client() as admin, ThreadPoolExecutor(1) as pool:
            admin.execute_command("CLIENT", "PAUSE", 300, "ALL")
            asking = pool.submit(cache.counts)
            time.sleep(0.1)
            cache.close()
            assert asking.result().total_jobs == len(RUNS)
        assert eventually(lambda: connections(server), 0) == 0

    def test_threads_interrupted_leave_no_reply_behind(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As by a worker's time-out, or a greenlet that is killed."""
        cache = sync_cache(server)
        ask(cache, random.Random(1))
        pool = cache._here.get()._pool
        connection = pool._idle[-1][0]
        monkeypatch.setattr(connection, "read_response", lambda: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            cache.counts()
        monkeypatch.undo()
        for seed in range(5):
            ask(cache, random.Random(seed))
        cache.close()


class TestGarbage:
    def test_a_cache_that_is_forgotten_takes_its_connections_along(
        self, server: RunningServer
    ) -> None:
        for _ in range(5):
            ask(sync_cache(server), random.Random(1))
        gc.collect()
        assert eventually(lambda: connections(server), 0) == 0

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_async_cache_that_is_forgotten_takes_its_connections_along(
        self, server: RunningServer
    ) -> None:
        async def use() -> None:
            for _ in range(5):
                await ask_async(async_cache(server), random.Random(1))
            gc.collect()

        asyncio.run(use())
        assert eventually(lambda: connections(server), 0) == 0


class TestFork:
    def test_parent_and_child_both_go_on(self, server: RunningServer) -> None:
        cache = sync_cache(server)
        ask(cache, random.Random(0))
        mine = ids(server)

        def work() -> None:
            rng = random.Random(os.getpid())
            for _ in range(50):
                ask(cache, rng)
            assert len(ids(server) - mine) >= 1

        children = [in_child(work) for _ in range(3)]
        work_on = random.Random(1)
        for _ in range(50):
            ask(cache, work_on)
        for child in children:
            assert_ended_well(child)
        assert eventually(lambda: connections(server), 1) == 1
        assert ids(server) == mine
        cache.close()

    def test_fork_while_other_threads_hold_everything_goes_on(self, server: RunningServer) -> None:
        """Locks and permits of threads that the child does not have."""
        cache = sync_cache(server, stale_if_error=60.0)
        ended = threading.Event()

        def work(seed: int) -> None:
            rng = random.Random(seed)
            while not ended.is_set():
                ask(cache, rng)

        with ThreadPoolExecutor(8) as pool:
            working = [pool.submit(work, seed) for seed in range(8)]
            time.sleep(0.05)
            children = [in_child(lambda: ask(cache, random.Random(1))) for _ in range(5)]
            for child in children:
                assert_ended_well(child)
            ended.set()
            for one in working:
                one.result()
        cache.close()

    def test_fork_child_does_not_know_the_parents_outage(
        self, server: RunningServer, tmp_path: Path
    ) -> None:
        """Nor the try that a thread of the parent is making."""
        moved = server.url.replace("server.sock", "away.sock")
        cache = JobCache(moved, namespace=NAMESPACE)
        for _ in range(2):
            with pytest.raises(CacheUnavailable):
                cache.counts()
        path = moved.removeprefix("unix://")
        os.link(path.replace("away.sock", "server.sock"), path)
        try:
            assert_ended_well(in_child(lambda: ask(cache, random.Random(1))))
        finally:
            os.unlink(path)

    def test_async_parent_and_child_both_go_on(self, server: RunningServer) -> None:
        """The parent's loop, and its epoll, are left alone."""
        cache = async_cache(server)
        with asyncio.Runner() as runner:
            runner.run(ask_async(cache, random.Random(0)))
            mine = ids(server)

            async def work() -> None:
                await asyncio.gather(*(ask_async(cache, random.Random(n)) for n in range(20)))
                gc.collect()
                await ask_async(cache, random.Random(1))
                await cache.stop()

            for _ in range(2):
                assert_ended_well(in_child(lambda: asyncio.run(work())))
            for seed in range(5):
                runner.run(ask_async(cache, random.Random(seed)))
            assert ids(server) == mine
            runner.run(cache.stop())


class TestEventLoops:
    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_event_loops_in_turn_leave_no_connection(self, server: RunningServer) -> None:
        cache = async_cache(server)
        for seed in range(5):
            asyncio.run(ask_async(cache, random.Random(seed)))
            assert eventually(lambda: connections(server), 1) == 1
        asyncio.run(cache.stop())
        assert eventually(lambda: connections(server), 0) == 0

    def test_event_loops_at_once_have_their_own_connections(self, server: RunningServer) -> None:
        cache = async_cache(server)

        async def work(seed: int) -> None:
            rngs = [random.Random(f"{seed} {number}") for number in range(10)]
            for _ in range(5):
                await asyncio.gather(*(ask_async(cache, rng) for rng in rngs))
            together.wait()
            if seed == 0:
                assert connections(server) <= 3 * POOL
            together.wait()
            await cache.stop()

        together = threading.Barrier(3)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda seed: asyncio.run(work(seed)), range(3)))
        assert eventually(lambda: connections(server), 0) == 0


class TestCancelledTasks:
    def test_answers_after_cancelled_tasks_are_right(self, server: RunningServer) -> None:
        async def work() -> None:
            cache = async_cache(server)
            rng = random.Random(7)
            for _ in range(150):
                tasks = [
                    asyncio.create_task(ask_async(cache, random.Random(rng.random())))
                    for _ in range(3)
                ]
                for _ in range(rng.randrange(12)):
                    await asyncio.sleep(0)
                tasks[0].cancel()
                if rng.random() < 0.3:
                    tasks[1].cancel()
                for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                    assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome
            await asyncio.gather(*(ask_async(cache, random.Random(n)) for n in range(20)))
            assert connections(server) <= POOL
            await cache.stop()

        asyncio.run(work())

    def test_cancelled_task_that_waits_for_a_connection_frees_its_turn(
        self, server: RunningServer
    ) -> None:
        async def work() -> None:
            cache = async_cache(server)
            for _ in range(20):
                tasks = [
                    asyncio.create_task(ask_async(cache, random.Random(number)))
                    for number in range(3 * POOL)
                ]
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                for task in tasks[POOL:]:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(ask_async(cache, random.Random(n)) for n in range(20)))
            await cache.stop()

        asyncio.run(work())

    def test_cancelled_task_wherever_it_is_leaves_no_reply_behind(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also where redis-py does not close the connection itself."""

        async def work() -> None:
            cache = async_cache(server)
            await ask_async(cache, random.Random(1))
            connection = cache._here.get().pool()._idle[-1][0]
            monkeypatch.setattr(connection, "read_response", lambda: asyncio.sleep(10))
            task = asyncio.create_task(cache.counts())
            await asyncio.sleep(0.05)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            monkeypatch.undo()
            for seed in range(5):
                await ask_async(cache, random.Random(seed))
            await cache.stop()

        asyncio.run(work())

    def test_cancelled_by_a_timeout_of_the_caller_leaves_no_reply_behind(
        self, server: RunningServer
    ) -> None:
        async def work() -> None:
            cache = async_cache(server)
            for number in range(60):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.0001 * (number % 20)):
                        await ask_async(cache, random.Random(number))
            await ask_async(cache, random.Random(1))
            await cache.stop()

        asyncio.run(work())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_sync_calls_in_an_event_loop_and_its_threads(server: RunningServer) -> None:
    """The lifecycle of the in-process cache."""

    async def work() -> None:
        cache = sync_cache(server)
        await cache.start()
        await asyncio.gather(
            *(asyncio.to_thread(ask, cache, random.Random(number)) for number in range(20))
        )
        await cache.stop()

    asyncio.run(work())
