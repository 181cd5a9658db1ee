"""Every call returns or raises within its deadline, whatever the server does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from jobcache import CacheNotReady, CacheUnavailable, JobCache
from tests.faults.oracle.proxy import Mode, Proxy
from tests.harness import Rig
from tests.hostile import OK, RESET_AFTER, after_handshake, black_hole, hostile, refusing, silent
from tests.integration.callers import DEADLINE, RUN, SLACK, Caller, assert_fails_in_time, refusal_of
from tests.trees import write_run


@contextlib.contextmanager
def answering(reply: Any) -> Iterator[str]:
    with hostile(after_handshake(reply)) as server:
        yield server.url


@contextlib.contextmanager
def dripping_handshake() -> Iterator[str]:
    with hostile(lambda command: 0.05) as server:
        yield server.url


@contextlib.contextmanager
def dripping_tls() -> Iterator[str]:
    with silent() as url:
        yield url.replace("redis://", "rediss://")


@contextlib.contextmanager
def silent_socket() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/s")
        listener.listen()
        yield f"unix://{directory}/s"


@contextlib.contextmanager
def silent_sentinels() -> Iterator[str]:
    """The first Sentinel hangs, the second names a primary that hangs."""
    with silent() as first, silent() as primary:
        port = primary.split(":")[2].removesuffix("/0").encode()
        address = b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%b\r\n" % (len(port), port)
        with hostile(lambda command: address if command[0] == b"SENTINEL" else OK) as second:
            seeds = [url.removeprefix("redis://").removesuffix("/0") for url in (first, second.url)]
            yield f"redis+sentinel://{','.join(seeds)}/jobs"


@contextlib.contextmanager
def silent_cluster() -> Iterator[str]:
    """The node that serves the slot hangs."""
    with silent() as owner:
        port = owner.split(":")[2].removesuffix("/0").encode()
        slots = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%b\r\n" % port
        with hostile(lambda command: slots if command[0] == b"CLUSTER" else OK) as node:
            yield node.url.replace("redis://", "redis+cluster://").removesuffix("/0")


FAILING: dict[str, tuple[Callable[[], AbstractContextManager[str]], str]] = {
    "refused": (refusing, "refused|111"),
    "black hole": (black_hole, "(?i)time"),
    "accepts and is silent": (silent, "(?i)time"),
    "silent after the handshake": (lambda: answering(None), "(?i)time"),
    "drips the handshake": (dripping_handshake, "(?i)time"),
    "drips a reply": (lambda: answering(0.05), "(?i)time"),
    "resets in a reply": (lambda: answering(b"$100\r\nx" + RESET_AFTER), "reset"),
    "ends in a reply": (lambda: answering(RESET_AFTER), "(?i)clos|reset"),
    "loading": (lambda: answering(b"-LOADING Redis is loading\r\n"), "loading"),
    "no script": (lambda: answering(b"-NOSCRIPT No matching script\r\n"), "matching script"),
    "wrong type": (lambda: answering(b"-WRONGTYPE wrong kind of value\r\n"), "wrong kind"),
    "silent in TLS": (dripping_tls, "(?i)time"),
    "silent socket": (silent_socket, "(?i)time"),
    "Sentinel and primary are silent": (silent_sentinels, "(?i)time"),
    "node of a Cluster is silent": (silent_cluster, "(?i)time"),
}


class TestDeadline:
    @pytest.mark.parametrize("how", FAILING)
    def test_deadline_ends_a_call_whatever_the_server_does(
        self, how: str, calling: Callable[..., Caller]
    ) -> None:
        start, match = FAILING[how]
        with start() as url:
            caller = calling(url, breaker=False)
            assert_fails_in_time(caller.list_all_jobs, match)

    def test_a_kept_connection_was_closed_and_the_next_one_hangs(
        self, calling: Callable[..., Caller]
    ) -> None:
        """The retry is within the same deadline."""
        with hostile(after_handshake(b"*0\r\n")) as server:
            caller = calling(server.url)
            assert caller.meta() == {}

            def answers(command: list[bytes]) -> Any:
                time.sleep(DEADLINE / 2)
                return RESET_AFTER if server.accepted == 1 else None

            server.answers = answers
            assert_fails_in_time(caller.meta, "(?i)time")
            assert server.accepted == 2

    def test_a_kept_connection_was_closed_and_the_next_one_serves(
        self, calling: Callable[..., Caller]
    ) -> None:
        with hostile(after_handshake(b"*0\r\n")) as server:
            caller = calling(server.url)
            caller.meta()
            server.answers = lambda command: (
                RESET_AFTER if server.accepted == 1 else after_handshake(b"*0\r\n")(command)
            )
            assert caller.meta() == {}

    def test_other_kept_connections_are_given_up_with_one_that_is_dead(self) -> None:
        """Or each of them would cost a deadline."""
        with hostile(after_handshake(b"*0\r\n")) as server:
            cache = JobCache(server.url, deadline=DEADLINE, max_connections=4, breaker=False)
            together = threading.Barrier(4)
            slow = threading.Event()

            def answers(command: list[bytes]) -> Any:
                slow.wait(0.1)
                return after_handshake(b"*0\r\n")(command)

            server.answers = answers
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda _: (together.wait(), cache.meta()), range(4)))
            assert server.accepted == 4
            server.answers = lambda command: None
            assert_fails_in_time(cache.meta)
            server.answers = after_handshake(b"*0\r\n")
            assert cache.meta() == {}
            assert server.accepted == 5

    def test_deadline_ends_a_call_while_a_name_server_hangs(
        self, calling: Callable[..., Caller], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ended = threading.Event()
        known = socket.getaddrinfo

        def hang(host: Any, *args: Any, **options: Any) -> Any:
            if host == "redis.example" and not options.get("flags"):
                ended.wait(10)
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")
            return known(host, *args, **options)

        monkeypatch.setattr(socket, "getaddrinfo", hang)
        try:
            caller = calling("redis://redis.example:6379/0", breaker=False)
            assert_fails_in_time(caller.freshness, "(?i)time")
        finally:
            ended.set()

    def test_an_address_that_leads_nowhere_leaves_time_for_the_next(
        self, calling: Callable[..., Caller], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As where a name has an IPv6 address that no packet reaches."""
        known = socket.getaddrinfo

        def both(host: Any, port: Any, *args: Any, **options: Any) -> Any:
            if host != "redis.example":
                return known(host, port, *args, **options)
            if options.get("flags"):
                raise socket.gaierror
            return [known(host, port, *args, **options)[0] for host in (nowhere, "127.0.0.1")]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        with hostile(after_handshake(b"*0\r\n")) as reached, black_hole(reached.port) as hole:
            nowhere = hole.split("//")[1].split(":")[0]
            assert calling(f"redis://redis.example:{reached.port}/0").meta() == {}

    def test_deadline_ends_a_call_while_others_use_the_pool_up(
        self, calling: Callable[..., Caller]
    ) -> None:
        with silent() as url:
            caller = calling(url, max_connections=1, breaker=False)
            if isinstance(caller.cache, JobCache):
                with ThreadPoolExecutor(4) as pool:
                    began = time.monotonic()
                    refusals = [pool.submit(refusal_of, caller.cache.freshness) for _ in range(4)]
                    texts = [refusal.result() for refusal in refusals]
                    took = time.monotonic() - began
            else:

                async def ask_all() -> list[Any]:
                    calls = [caller.cache.freshness() for _ in range(4)]
                    return await asyncio.gather(*calls, return_exceptions=True)

                began = time.monotonic()
                texts = [str(error) for error in caller._loop.run(ask_all())]  # type: ignore[union-attr]
                took = time.monotonic() - began
        assert took < DEADLINE + SLACK
        assert any("all 1 are in use" in text for text in texts)

    def test_call_of_several_exchanges_has_one_deadline(
        self, proxy: Proxy, namespace: str, status_dir: Path, calling: Callable[..., Caller]
    ) -> None:
        write_run(status_dir, RUN)
        with rig_behind(proxy, status_dir, namespace) as rig:
            rig.settle()
            caller = calling(proxy.url, namespace=namespace)
            caller.freshness()
            proxy.set(Mode.DELAY, 0.18)  # for a request, and for a reply: 0.36 s each exchange
            assert_fails_in_time(lambda: caller.delete_job(*RUN), "(?i)time")
            proxy.set(Mode.PASS)

    def test_long_listing_has_a_deadline_for_each_part(
        self, proxy: Proxy, namespace: str, status_dir: Path, calling: Callable[..., Caller]
    ) -> None:
        for number in range(650):
            write_run(status_dir, ("p", "g", "n", f"r{number:03}"), config={})
        with rig_behind(proxy, status_dir, namespace) as rig:
            rig.settle()
            caller = calling(proxy.url, namespace=namespace, memo_bytes=0, deadline=1.0)
            caller.freshness()
            proxy.set(Mode.DELAY, 0.13)  # for a request, and for each piece of a reply
            began = time.monotonic()
            assert len(caller.list_all_jobs(limit=None)) == 650
            assert time.monotonic() - began > 1.0

    @pytest.mark.parametrize("call", ["start", "changes", "refresh"])
    def test_calls_that_wait_take_their_time_and_one_deadline(
        self, call: str, proxy: Proxy, namespace: str, calling: Callable[..., Caller]
    ) -> None:
        """The server hangs while they wait."""
        caller = calling(proxy.url, namespace=namespace, ready_timeout=30.0)
        options: dict[str, Any] = {
            "start": {},
            "changes": {"wait": 30.0},
            "refresh": {"wait": True, "timeout": 30.0},
        }[call]
        timer = threading.Timer(0.3, proxy.set, (Mode.SWALLOW,))
        timer.start()
        began = time.monotonic()
        with pytest.raises((CacheUnavailable, CacheNotReady)):
            asyncio_start(caller) if call == "start" else getattr(caller, call)(**options)
        assert time.monotonic() - began < 0.3 + 0.25 + DEADLINE + SLACK
        timer.join()

    def test_waiting_for_a_connection_is_not_the_servers_time(
        self, valkey_rig: Rig, calling: Callable[..., Caller]
    ) -> None:
        options = {"namespace": valkey_rig.namespace, "deadline": 0.3, "ready_timeout": 0.7}
        caller = calling(valkey_rig.url, **options)
        with pytest.raises(CacheNotReady, match="waited"):
            asyncio_start(caller)
        valkey_rig.settle()
        assert caller.changes(wait=0.7) == []
        with pytest.raises(CacheUnavailable, match="no refresher completed a scan"):
            caller.refresh(wait=True, timeout=0.7)


def asyncio_start(caller: Caller) -> None:
    if isinstance(caller.cache, JobCache):
        caller.cache.open()
    else:
        caller.start()


@contextlib.contextmanager
def rig_behind(proxy: Proxy, status_dir: Path, namespace: str) -> Iterator[Rig]:
    """A refresher that goes the same way, while it passes."""
    with Rig(proxy.url, status_dir, namespace) as rig:
        try:
            yield rig
        finally:
            proxy.set(Mode.PASS)
            time.sleep(0.05)
