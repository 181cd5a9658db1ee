"""Who leads, and what becomes of the cache when that changes, restarts or hangs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from jobcache import CacheNotReady, CacheState, JobCache
from tests.contract.compare import names_of
from tests.faults.faulty import FaultyTree
from tests.harness import note_reads
from tests.integration.living import OTHER, RUN, alive, free_port, metrics_at, wait_for
from tests.programs import REFRESHER, environment
from tests.servers import RunningServer, running_server
from tests.trees import Names, delete_run, write_run

SETTLE = 0.2
"""Seconds after a change for which a file is racy here."""


def leader(server: RunningServer, status_dir: Path, namespace: str, lease_ttl: float = 1) -> str:
    """A program that leads until it is killed, and says so when it does."""
    settings = f"poll_interval=0.1, namespace={namespace!r}, lease_ttl={lease_ttl}"
    return textwrap.dedent(f"""
        import time
        from jobcache_refresher import Refresher
        with Refresher({str(status_dir)!r}, url={server.url!r}, {settings}):
            print("up", flush=True)
            time.sleep(60)
    """)


class TestLeadership:
    def test_a_standby_takes_over_within_a_second(
        self, real_server: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN)
        with (
            alive(real_server, status_dir, namespace) as (first, cache),
            alive(real_server, status_dir, namespace) as (second, _),
        ):
            assert (first.leads, second.leads) == (True, False)
            wait_for(lambda: second._engine.follower.is_whole)  # it keeps warm
            first.close()
            assert wait_for(lambda: second.leads) < 1
            write_run(status_dir, OTHER)
            wait_for(lambda: cache.get_job(*OTHER))

    def test_killed_and_replaced_when_the_lease_ends(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN)
        code = leader(valkey, status_dir, namespace)
        victim = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"up\n"
        with alive(valkey, status_dir, namespace, lease_ttl=1) as (standby, cache):
            assert not standby.leads
            victim.kill()
            victim.wait()
            victim.stdout.close()
            assert wait_for(lambda: standby.leads) < 2.5
            write_run(status_dir, OTHER)
            wait_for(lambda: cache.get_job(*OTHER))

    def test_a_paused_leader_writes_nothing_more_and_says_why(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        """On one server: that each kind refuses a write under a lost lease is tests/contract/test_fence.py."""
        write_run(status_dir, RUN)
        port = free_port()
        with paused_leader(valkey, status_dir, namespace, port) as paused:
            paused.send_signal(signal.SIGSTOP)
            # The standby publishes once, and is quiet then.
            with (
                alive(valkey, status_dir, namespace, lease_ttl=3, poll_interval=60) as standby,
                valkey.client() as redis,
            ):
                wait_for(lambda: standby[0].leads, timeout=10)
                write_run(status_dir, OTHER)
                standby[1].refresh(wait=True)
                before = contents(redis, namespace)
                paused.send_signal(signal.SIGCONT)
                # Ten of its polls.
                wait_for(lambda: metrics_at(port)["jobcache_leadership_lost_total"] == 1)
                time.sleep(1)
                assert contents(redis, namespace) == before
                assert standby[0].leads
                assert metrics_at(port)["jobcache_leader"] == 0
                assert names_of(standby[1].list_all_jobs()) == [OTHER, RUN]
            paused.kill()
            assert paused.stderr is not None
            said = paused.stderr.read().decode()
        assert re.search(
            r"leading no more, and writing nothing: the lease ended \d+\.\d s ago without being "
            r"renewed: this process was paused, or Redis was out of reach",
            said,
        )


@contextmanager
def paused_leader(
    server: RunningServer, status_dir: Path, namespace: str, port: int
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads, polls ten times a second, and tells metrics; to be paused."""
    program = (*REFRESHER, "run", "--status-dir", str(status_dir))
    settings = ("--url", server.url, "--namespace", namespace, "--lease-ttl", "3")
    quick = ("--poll-interval", "0.1", "--metrics-port", str(port))
    command = [*program, *settings, *quick]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment()) as process:
        try:
            wait_for(lambda: leads(port), timeout=20)
            yield process
        finally:
            process.kill()


def leads(port: int) -> bool:
    with suppress(OSError):
        found = metrics_at(port)
        return bool(found["jobcache_leader"] and found["jobcache_scans_total"])
    return False


def contents(redis: Redis, namespace: str) -> dict[bytes, object]:
    """All that a namespace holds but for the signs of life of whoever leads."""
    found: dict[bytes, object] = {}
    for key in redis.scan_iter(f"jobcache:{{{namespace}}}:*"):
        match redis.type(key):
            case b"hash":
                found[key] = redis.hgetall(key)
            case b"zset":
                found[key] = redis.zrange(key, 0, -1, withscores=True)
            case b"stream":
                found[key] = redis.xrange(key)
            case b"string":
                found[key] = redis.get(key)
    meta = found[f"jobcache:{{{namespace}}}:meta".encode()]
    assert isinstance(meta, dict)
    meta.pop(b"beat_at", None)
    return found


class TestRestart:
    def test_restart_reads_only_what_changed_and_is_never_blank(
        self,
        valkey: RunningServer,
        status_dir: Path,
        namespace: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for number in range(200):
            directory = write_run(status_dir, ("p", "g", "n", f"r{number}"), status="completed")
            os.utime(directory / "metadata.json", (1e9, 1e9))
        time.sleep(2 * SETTLE)  # else the change times say that they are racy
        with alive(valkey, status_dir, namespace, settle=SETTLE):
            pass
        write_run(status_dir, ("p", "g", "n", "r7"), status="failed")
        write_run(status_dir, ("p", "g", "n", "new"), status="failed")
        read = note_reads(monkeypatch)
        seen: set[int] = set()
        stop = threading.Event()

        def watch() -> None:
            with JobCache(valkey.url, namespace=namespace) as reader:
                while not stop.is_set():
                    seen.add(reader.get_dashboard_stats().total_jobs)

        watcher = threading.Thread(target=watch)
        watcher.start()
        with alive(valkey, status_dir, namespace) as (_, cache):
            assert cache.get_dashboard_stats().failed == 2
        stop.set()
        watcher.join()
        assert set(read) == {b"p/g/n/r7", b"p/g/n/new"}
        assert seen <= {200, 201}

    @pytest.mark.parametrize("flush", ["FLUSHALL", "FLUSHDB"])
    def test_a_flushed_cache_is_rebuilt_from_memory(
        self, status_dir: Path, namespace: str, flush: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(20):
            write_run(status_dir, ("p", "g", "n", f"r{number}"), status="completed")
        with (
            running_server("valkey-9") as server,
            alive(server, status_dir, namespace) as (_, cache),
            server.client() as redis,
        ):
            epoch = cache.freshness().epoch
            redis.execute_command(flush)
            wait_for(lambda: cache.freshness().epoch not in {epoch, ""})
            wait_for(lambda: cache.freshness().state is CacheState.READY)
            assert cache.get_dashboard_stats().total_jobs == 20


class TestAfterStandingBy:
    """A refresher that led, stood by while another led, and leads again."""

    def led_twice(
        self,
        server: RunningServer,
        status_dir: Path,
        namespace: str,
        meanwhile: Callable[[JobCache], None],
    ) -> list[set[Names]]:
        """What readers see when the first one leads again, after the second one and the data were lost."""
        lease = f"jobcache:{{{namespace}}}:lease"
        with (
            server.client() as redis,
            alive(server, status_dir, namespace, lease_ttl=1) as (first, cache),
        ):
            with alive(server, status_dir, namespace, lease_ttl=1) as (second, _):
                ends = time.monotonic() + 15
                while not second.leads:
                    assert time.monotonic() < ends
                    redis.delete(lease)  # whoever asks next has it
                    time.sleep(0.3)
                wait_for(lambda: not first.leads)
                meanwhile(cache)
                trees = [first._engine.scanner._discovery._tree]  # holds its look at the tree back
                original = trees[0].list_directory

                def slow(path: bytes, **rest: Any) -> Any:
                    time.sleep(0.3)
                    return original(path, **rest)

                trees[0].list_directory = slow  # type: ignore[method-assign]
                redis.flushall()
                second._stop.set()
            views: list[set[Names]] = []
            ends = time.monotonic() + 10
            while len(views) < 20 and time.monotonic() < ends:
                with suppress(CacheNotReady):
                    views.append(set(names_of(cache.list_all_jobs(limit=None))))
                time.sleep(0.02)
            return views

    def test_standby_after_leading_does_not_show_its_old_memory_as_whole(
        self, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN)

        def meanwhile(cache: JobCache) -> None:
            write_run(status_dir, OTHER)
            wait_for(lambda: cache.get_job(*OTHER))

        with running_server("valkey-9") as server:
            views = self.led_twice(server, status_dir, namespace, meanwhile)
        assert views
        assert all(view == {RUN, OTHER} for view in views)

    def test_standby_after_leading_does_not_obey_old_deletions(
        self, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN)
        write_run(status_dir, OTHER)

        def meanwhile(cache: JobCache) -> None:
            delete_run(status_dir, RUN)
            cache.delete_job(*RUN)
            time.sleep(1)
            write_run(status_dir, RUN)
            cache.invalidate(*RUN)
            wait_for(lambda: cache.get_job(*RUN))

        with running_server("valkey-9") as server:
            views = self.led_twice(server, status_dir, namespace, meanwhile)
        assert views
        assert all(view == {RUN, OTHER} for view in views)


class TestHungFilesystem:
    def test_hung_filesystem_holds_up_neither_clients_nor_the_end(
        self,
        valkey: RunningServer,
        status_dir: Path,
        namespace: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        trees: list[FaultyTree] = []

        def make(root: str) -> FaultyTree:
            trees.append(FaultyTree(root))
            return trees[-1]

        monkeypatch.setattr("jobcache_refresher.engine.Tree", make)
        write_run(status_dir, RUN)
        with alive(valkey, status_dir, namespace, hang_timeout=0.5) as (refresher, cache):
            trees[0].go_on.clear()
            wait_for(lambda: cache.freshness().state is CacheState.DEGRADED)
            assert "hangs" in (cache.freshness().reason or "")
            wait_for(lambda: not refresher.leads)
            assert names_of(cache.list_all_jobs()) == [RUN]
            write_run(status_dir, OTHER)
            trees[0].go_on.set()
            wait_for(lambda: cache.get_job(*OTHER))
            wait_for(lambda: cache.freshness().state is CacheState.READY)
            trees[0].go_on.clear()
            time.sleep(0.3)
            began = time.monotonic()
            refresher.close()
            assert time.monotonic() - began < 5
            trees[0].go_on.set()
