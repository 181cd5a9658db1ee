"""A connection that leads to the wrong server, or nowhere, is replaced before a call fails by it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jobcache import JobCache
from jobcache.schema.keys import Keys
from jobcache.transport import aiopool as aiopool_module
from jobcache.transport import attempt
from jobcache.transport import pool as pool_module
from jobcache.transport.endpoint import Endpoint
from jobcache_refresher import Refresher
from jobcache_refresher.clock import Clock
from jobcache_refresher.publish.deleter import Deleter
from jobcache_refresher.publish.lease import Lease
from jobcache_refresher.publish.server import Server
from jobcache_refresher.publish.store import Store
from jobcache_refresher.triggers.requests import RequestInbox
from tests.faults.oracle.proxy import Proxy
from tests.harness import Rig
from tests.hostile import OK, after_handshake, hostile
from tests.integration.callers import Caller
from tests.servers import RunningServer, running_server
from tests.trees import Names, write_run

NAMESPACE = "renewed"
RUN: Names = ("p", "g", "n", "r1")
LATER: Names = ("p", "g", "n", "r2")
DEADLINE = 2.0
TOGETHER = 4


def path_of(server: RunningServer) -> str:
    return server.url.removeprefix("unix://")


class Pair:
    """Two servers behind one address, the first of which is in charge, and the second holds the same."""

    def __init__(self, old: RunningServer, new: RunningServer) -> None:
        self.old = old
        self.new = new
        self.proxy = Proxy(path_of(old))
        self.proxy.start()

    @property
    def url(self) -> str:
        return self.proxy.url

    def fail_over(self, *, says: str = "READONLY") -> None:
        """As a service does it by hand: nobody dies, and connections stay where they are."""
        self.proxy.turn(path_of(self.new))
        with self.old.client() as client:
            if says == "MASTERDOWN":
                client.config_set("replica-serve-stale-data", "no")
            client.replicaof("127.0.0.1", "1")


@pytest.fixture(params=["valkey-9", "redis-7.0"])
def pair(request: pytest.FixtureRequest, status_dir: Path) -> Iterator[Pair]:
    """Two servers of each of two kinds."""
    write_run(status_dir, RUN)
    with running_server(request.param) as old, running_server(request.param) as new:
        for server in (old, new):
            with Rig(server.url, status_dir, NAMESPACE) as rig:
                rig.settle()
        pair = Pair(old, new)
        yield pair
        pair.proxy.end()


@pytest.fixture
def way(status_dir: Path) -> Iterator[Proxy]:
    """A way to a server that holds a job."""
    write_run(status_dir, RUN)
    with running_server("valkey-9") as server:
        with Rig(server.url, status_dir, NAMESPACE) as rig:
            rig.settle()
        proxy = Proxy(path_of(server))
        proxy.start()
        yield proxy
        proxy.end()


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets so much time pass that connections count as idle."""
    monkeypatch.setattr(attempt, "TRUSTED_FOR", 0.1)
    return lambda: time.sleep(0.2)


def until(condition: Callable[[], Any], seconds: float = 15) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


class TestFailoverBehindOneAddress:
    def test_write_after_a_failover_goes_to_the_new_primary(
        self, pair: Pair, calling: Callable[..., Caller]
    ) -> None:
        caller = calling(pair.url, namespace=NAMESPACE, deadline=DEADLINE)
        assert caller.counts().total_jobs == 1
        pair.fail_over()
        caller.invalidate(*RUN)
        with pair.new.client() as client:
            assert client.xlen(Keys(NAMESPACE).requests) == 1

    def test_read_after_a_failover_goes_to_the_new_primary(
        self, pair: Pair, calling: Callable[..., Caller]
    ) -> None:
        caller = calling(pair.url, namespace=NAMESPACE, deadline=DEADLINE)
        assert caller.counts().total_jobs == 1
        pair.fail_over(says="MASTERDOWN")
        assert caller.counts().total_jobs == 1

    def test_connection_kept_to_a_server_that_loads_is_renewed(
        self, calling: Callable[..., Caller]
    ) -> None:
        with hostile(after_handshake(b"*0\r\n")) as server:
            caller = calling(server.url, deadline=DEADLINE)
            assert caller.meta() == {}

            def answers(command: list[bytes]) -> Any:
                if server.accepted == 1:
                    return b"-LOADING Redis is loading the dataset in memory\r\n"
                return after_handshake(b"*0\r\n")(command)

            server.answers = answers
            assert caller.meta() == {}
            assert server.accepted == 2

    def test_readonly_error_in_the_words_of_a_script_is_understood(
        self, calling: Callable[..., Caller]
    ) -> None:
        said = b"-ERR Error running script (call to f_1): @user_script:1: -READONLY You can't\r\n"
        with hostile(after_handshake(b"*0\r\n")) as server:
            caller = calling(server.url, deadline=DEADLINE)
            assert caller.meta() == {}
            server.answers = lambda command: (
                said if server.accepted == 1 else after_handshake(b"*0\r\n")(command)
            )
            assert caller.meta() == {}

    def test_failover_closes_the_other_connections_of_a_pool(self) -> None:
        """They may still read, from a server that is not in charge."""
        together = threading.Barrier(TOGETHER)

        def answer_together(command: list[bytes]) -> Any:
            if command[0] == b"HGETALL":
                together.wait()
            return after_handshake(b"*0\r\n")(command)

        with hostile(answer_together) as server:
            cache = JobCache(server.url, deadline=DEADLINE, max_connections=TOGETHER)
            with ThreadPoolExecutor(TOGETHER) as pool:
                list(pool.map(lambda _: cache.meta(), range(TOGETHER)))
            assert server.accepted == TOGETHER
            server.answers = lambda command: (
                b"-READONLY no\r\n" if server.accepted == TOGETHER else OK
            )
            cache.invalidate(*RUN)
            together.reset()
            server.answers = answer_together
            with ThreadPoolExecutor(TOGETHER) as pool:
                list(pool.map(lambda _: cache.meta(), range(TOGETHER)))
            assert server.accepted == 2 * TOGETHER
            cache.close()

    def test_refresher_after_a_failover_goes_on(self, pair: Pair, status_dir: Path) -> None:
        settings: dict[str, Any] = {"relist_interval": 0.2, "lease_ttl": 1.0, "settle": 0.05}
        with Refresher(status_dir, "polling", 0.1, url=pair.url, namespace=NAMESPACE, **settings):
            pair.fail_over()
            write_run(status_dir, LATER)
            with JobCache(pair.new.url, namespace=NAMESPACE) as direct:
                until(lambda: direct.get_job(*LATER) is not None)

    def test_requests_after_a_failover_are_read(self, pair: Pair) -> None:
        """Its read that waits is ended by the server that is demoted."""
        server, keys = Server(Endpoint.find(pair.url)), Keys(NAMESPACE)
        came = threading.Event()
        deleter = Deleter(Store(server, keys, Lease(server, keys, "t:1:0", 5, Clock())), came.set)
        inbox = RequestInbox(server, keys, deleter, came.set)
        inbox.open(b"0-0")
        pair.fail_over()
        with contextlib.closing(JobCache(pair.new.url, namespace=NAMESPACE)) as direct:
            direct.invalidate(*RUN)
        assert came.wait(10)
        inbox.stop()
        server.close()


class TestForgottenByTheNetwork:
    def test_call_on_a_forgotten_connection_succeeds(
        self, way: Proxy, idle: Callable[[], None], calling: Callable[..., Caller]
    ) -> None:
        caller = calling(way.url, namespace=NAMESPACE, deadline=DEADLINE)
        for _ in range(3):
            assert caller.counts().total_jobs == 1
            way.forget()
            idle()
        caller.invalidate(*RUN)

    def test_calls_on_forgotten_connections_succeed_at_once(
        self, way: Proxy, idle: Callable[[], None]
    ) -> None:
        with (
            JobCache(way.url, namespace=NAMESPACE, deadline=DEADLINE) as cache,
            ThreadPoolExecutor(6) as pool,
        ):
            for _ in range(2):
                counted = list(pool.map(lambda _: cache.counts().total_jobs, range(6)))
                assert counted == [1] * 6
                way.forget()
                idle()

    def test_refresher_on_a_forgotten_connection_waits_for_no_timeout(
        self, way: Proxy, idle: Callable[[], None]
    ) -> None:
        server = Server(Endpoint.find(way.url))
        assert server.ask(b"PING")
        way.forget()
        idle()
        assert server.ask(b"PING")
        server.close()

    def test_connection_in_use_costs_no_more(
        self, monkeypatch: pytest.MonkeyPatch, calling: Callable[..., Caller]
    ) -> None:
        monkeypatch.setattr(attempt, "TRUSTED_FOR", 60.0)
        with hostile(after_handshake(b"*0\r\n")) as server:
            caller = calling(server.url)
            for _ in range(20):
                caller.meta()
            assert b"PING" not in server.asked
            assert server.accepted == 1

    def test_connection_that_was_idle_and_lives_is_kept(
        self, idle: Callable[[], None], calling: Callable[..., Caller]
    ) -> None:
        with hostile(after_handshake(b"*0\r\n")) as server:
            caller = calling(server.url)
            caller.meta()
            idle()
            caller.meta()
            assert b"PING" not in server.asked
            assert server.accepted == 1

    def test_connection_that_was_idle_for_long_is_not_used(
        self, monkeypatch: pytest.MonkeyPatch, calling: Callable[..., Caller]
    ) -> None:
        for module in (pool_module, aiopool_module):
            monkeypatch.setattr(module, "KEPT_FOR", 0.1)
        with hostile(after_handshake(b"*0\r\n")) as server:
            caller = calling(server.url)
            caller.meta()
            time.sleep(0.2)
            caller.meta()
            assert server.accepted == 2
