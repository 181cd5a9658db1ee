"""What is away is left in peace, and old answers stand in where that is wanted."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jobcache import CacheNotReady, CacheState, CacheUnavailable, JobCache
from tests.faults.oracle.proxy import Mode, Proxy
from tests.harness import Rig
from tests.hostile import OK, RESET_AFTER, after_handshake, hostile
from tests.integration.callers import DEADLINE, RUN, SLACK, Caller, assert_fails_in_time, refusal_of
from tests.servers import RunningServer
from tests.trees import delete_run, write_run


class TestBreaker:
    def test_calls_fail_at_once_while_one_at_a_time_tries(
        self, calling: Callable[..., Caller]
    ) -> None:
        with hostile(lambda command: None) as server:
            caller = calling(server.url)
            assert_fails_in_time(caller.freshness)
            began = time.monotonic()
            refused = 0
            while time.monotonic() - began < 0.02:
                assert_fails_in_time(caller.freshness, r"no answer for 0\.\d s \(.*asked again", 0)
                refused += 1
            assert refused
            assert server.accepted == 1

    def test_no_storm_of_connections_to_a_server_that_refuses(
        self, calling: Callable[..., Caller], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with hostile(lambda command: RESET_AFTER) as server:
            caller = calling(server.url)
            began = time.monotonic()
            while time.monotonic() - began < 0.5:
                assert_fails_in_time(caller.freshness)
                time.sleep(0.005)
            # Two that opened it, and tries after about 0.1, 0.2 and 0.4 s.
            assert 3 <= server.accepted <= 7

    def test_many_threads_share_one_verdict(self) -> None:
        with hostile(lambda command: None) as server:
            cache = JobCache(server.url, deadline=DEADLINE, max_connections=4)
            assert_fails_in_time(cache.freshness)
            before = server.accepted
            with ThreadPoolExecutor(16) as pool:
                ends = time.monotonic() + 1.0

                def ask(_: int) -> None:
                    while time.monotonic() < ends:
                        assert_fails_in_time(cache.freshness)
                        time.sleep(0.01)

                list(pool.map(ask, range(16)))
            assert 1 <= server.accepted - before <= 4

    def test_a_server_that_is_back_is_noticed_within_a_second(
        self, proxy: Proxy, calling: Callable[..., Caller]
    ) -> None:
        caller = calling(proxy.url)
        caller.freshness()
        proxy.set(Mode.CUT)
        ends = time.monotonic() + 2
        while time.monotonic() < ends:
            with pytest.raises(CacheUnavailable):
                caller.freshness()
            time.sleep(0.02)
        proxy.set(Mode.PASS)
        back = time.monotonic()
        while True:
            with contextlib.suppress(CacheUnavailable):
                caller.freshness()
                break
            assert time.monotonic() - back < 1.0 + SLACK
            time.sleep(0.01)

    def test_answer_with_an_error_never_opens_the_breaker(
        self, valkey: RunningServer, valkey_rig: Rig, calling: Callable[..., Caller]
    ) -> None:
        rig = valkey_rig
        caller = calling(rig.url, namespace=rig.namespace)
        for _ in range(5):
            with pytest.raises(CacheNotReady):
                caller.list_all_jobs()
        write_run(rig.status_dir, RUN)
        rig.settle()
        with valkey.client() as redis:
            kept: Any = redis.dump(rig.refresher.keys.meta)
            redis.set(rig.refresher.keys.meta, "wrong")
            for _ in range(5):
                with pytest.raises(CacheUnavailable, match=r"WRONGTYPE|wrong kind"):
                    caller.list_all_jobs()
            redis.restore(rig.refresher.keys.meta, 0, kept, replace=True)
        assert len(caller.list_all_jobs()) == 1

    @pytest.mark.parametrize(
        "says",
        [
            *("-LOADING loading", "-NOPERM no right", "-WRONGPASS wrong"),
            *("-READONLY no writes", "-MASTERDOWN alone"),
        ],
    )
    def test_refusal_of_a_user_never_opens_the_breaker(
        self, says: str, calling: Callable[..., Caller]
    ) -> None:
        with hostile(lambda command: says.encode() + b"\r\n") as server:
            caller = calling(server.url.replace("redis://", "redis://u:p@"))
            for _ in range(5):
                assert_fails_in_time(caller.freshness, says.split()[1])
            server.answers = lambda command: OK if command[0] != b"HGETALL" else b"*0\r\n"
            assert caller.meta() == {}

    def test_timeout_of_a_short_rest_does_not_open_the_breaker(self) -> None:
        """Who waited for a connection until the end tells nothing of the server."""
        with hostile(after_handshake(None)) as server:
            cache = JobCache(server.url, deadline=DEADLINE, max_connections=1)
            pool = cache._here.get()._pool
            pool._permits.get()
            release = threading.Timer(DEADLINE * 0.7, pool._permits.put, [None])
            release.start()
            assert_fails_in_time(cache.freshness, "(?i)time")
            release.join()
            assert "asked again" not in refusal_of(cache.freshness)
            assert "asked again" in refusal_of(cache.freshness)


class TestStaleIfError:
    @pytest.fixture
    def filled(self, proxy: Proxy, status_dir: Path, namespace: str) -> Iterator[Rig]:
        for number in range(3):
            write_run(status_dir, ("p", "g", "n", f"r{number}"), config={"a": {"b": 1}})
        with Rig(proxy.url, status_dir, namespace) as rig:
            rig.settle()
            yield rig
            proxy.set(Mode.PASS)
            time.sleep(0.05)

    def test_stale_if_error_stands_in_for_every_query(
        self, filled: Rig, proxy: Proxy, calling: Callable[..., Caller]
    ) -> None:
        caller = calling(proxy.url, namespace=filled.namespace, stale_if_error=60.0)
        queries: list[Callable[[], Any]] = [
            caller.list_all_jobs,
            lambda: caller.list_all_jobs(project="p", status="running"),
            lambda: caller.list_all_jobs(project="a/b"),
            lambda: caller.page(limit=2).jobs,
            lambda: caller.get_job("p", "g", "n", "r1"),
            lambda: caller.get_job("p", "g", "n", "other"),
            lambda: caller.get_job_runs("p", "g", "n"),
            caller.list_projects,
            caller.get_running_jobs,
            caller.get_recent_jobs,
            caller.get_dashboard_stats,
            caller.counts,
        ]
        new = [query() for query in queries]
        assert not caller.last_freshness.last_good
        age = caller.last_freshness.age
        proxy.set(Mode.CUT)
        time.sleep(0.2)
        for query, answer in zip(queries, new, strict=True):
            assert query() == answer
            fresh = caller.last_freshness
            assert fresh.last_good
            assert fresh.state is CacheState.DEGRADED
            assert fresh.reason
            assert age + 0.2 <= fresh.age < age + 10
        assert caller.page(limit=2).freshness.last_good
        listed = caller.list_all_jobs()
        listed[0].config["a"]["b"] = 2
        listed.clear()
        assert [job.config for job in caller.list_all_jobs()] == [{"a": {"b": 1}}] * 3
        others: list[Callable[[], Any]] = [
            lambda: caller.list_all_jobs(limit=2),
            lambda: caller.delete_job(*RUN),
            lambda: caller.invalidate(*RUN),
            caller.refresh,
            caller.freshness,
            caller.meta,
        ]
        for call in others:
            with pytest.raises(CacheUnavailable):
                call()

    def test_stale_if_error_is_off_by_default_and_bounded_in_age(
        self, filled: Rig, proxy: Proxy, calling: Callable[..., Caller]
    ) -> None:
        off = calling(proxy.url, namespace=filled.namespace)
        brief = calling(proxy.url, namespace=filled.namespace, stale_if_error=0.3)
        for caller in (off, brief):
            caller.counts()
        proxy.set(Mode.CUT)
        time.sleep(0.05)
        with pytest.raises(CacheUnavailable):
            off.counts()
        brief.counts()
        time.sleep(0.3)
        with pytest.raises(CacheUnavailable):
            brief.counts()

    def test_stale_if_error_gives_nothing_that_was_deleted_or_lost(
        self, valkey: RunningServer, filled: Rig, proxy: Proxy, calling: Callable[..., Caller]
    ) -> None:
        caller = calling(proxy.url, namespace=filled.namespace, stale_if_error=60.0)
        caller.list_all_jobs()
        delete_run(filled.status_dir, RUN)
        with filled.answering():
            caller.delete_job(*RUN)
        counted = caller.counts()
        proxy.set(Mode.CUT)
        time.sleep(0.05)
        with pytest.raises(CacheUnavailable):
            caller.list_all_jobs()
        assert caller.counts() == counted
        proxy.set(Mode.PASS)
        time.sleep(0.05)
        with valkey.client() as redis:
            redis.delete(filled.refresher.keys.meta)
        eventually_raises(caller.counts, CacheNotReady)
        proxy.set(Mode.CUT)
        time.sleep(0.05)
        with pytest.raises(CacheUnavailable):
            caller.counts()


def eventually_raises(call: Callable[[], Any], error: type[Exception]) -> None:
    ends = time.monotonic() + 3
    while True:
        try:
            call()
        except error:
            return
        except CacheUnavailable:
            pass
        assert time.monotonic() < ends
        time.sleep(0.02)
