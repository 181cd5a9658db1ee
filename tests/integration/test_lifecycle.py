"""Refreshers and caches that live: threads, leases, requests, restarts."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from redis import Redis

from jobcache import CacheNotReady, CacheState, CacheUnavailable, ConfigError, JobCache, JobStatus
from jobcache_refresher import EmbeddedServer, LocalJobCache, Refresher
from tests.contract.compare import names_of
from tests.faults.faulty import FaultyTree
from tests.harness import note_reads
from tests.programs import REFRESHER, environment
from tests.servers import RunningServer, running_server
from tests.trees import Names, delete_run, write_raw, write_run

RUN: Names = ("p", "g", "n", "r1")
OTHER: Names = ("p", "g", "n", "r2")


def wait_for(what: Callable[[], object], timeout: float = 5.0) -> float:
    """Seconds until something is true; fails after the timeout."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < timeout, "waited in vain"
        time.sleep(0.01)
    return time.monotonic() - began


@contextmanager
def alive(
    server: RunningServer, status_dir: Path, namespace: str, **settings: Any
) -> Iterator[tuple[Refresher, JobCache]]:
    settings.setdefault("poll_interval", 0.2)
    refresher = Refresher(status_dir, url=server.url, namespace=namespace, **settings)
    with refresher, JobCache(server.url, namespace=namespace) as cache:
        yield refresher, cache


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


class TestRefresher:
    def test_start_is_the_first_full_scan(
        self, real_server: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN)
        with alive(real_server, status_dir, namespace) as (_, cache):
            assert names_of(cache.list_all_jobs()) == [RUN]
            assert cache.freshness().state is CacheState.READY

    def test_changes_become_visible_and_stop_becoming_so(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN)
        with alive(valkey, status_dir, namespace) as (refresher, cache):
            write_run(status_dir, OTHER)
            assert wait_for(lambda: cache.get_job(*OTHER)) < 1.7
            write_run(status_dir, RUN, status="failed")
            assert wait_for(lambda: cache.get_dashboard_stats().failed) < 1.7
            delete_run(status_dir, RUN)
            wait_for(lambda: cache.get_job(*RUN) is None)
            refresher.close()
            write_run(status_dir, RUN)
            time.sleep(0.5)
            assert cache.get_job(*RUN) is None
            assert cache.freshness().state is CacheState.READY
            assert (cache.freshness().age or 0) > 0.4

    def test_refresher_started_and_stopped_by_await_publishes(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        async def live() -> None:
            refresher = Refresher(status_dir, url=valkey.url, namespace=namespace)
            await refresher.start()
            cache = JobCache(valkey.url, namespace=namespace)
            await cache.start()
            assert cache.list_all_jobs() == []
            await cache.stop()
            await refresher.stop()

        asyncio.run(live())

    def test_refresher_stopped_leaves_nothing_behind(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN)
        before = set(threading.enumerate())
        with alive(valkey, status_dir, namespace):
            time.sleep(0.3)
        with valkey.client() as redis:
            assert redis.get(f"jobcache:{{{namespace}}}:lease") is None
        ends = time.monotonic() + 3
        while mine := set(threading.enumerate()) - before:
            assert time.monotonic() < ends, mine
            time.sleep(0.02)
        held = os.listdir("/proc/self/fd")
        assert not [fd for fd in held if str(status_dir) in _target(fd)]

    def test_refresher_without_redis_fails_at_start(self, status_dir: Path, tmp_path: Path) -> None:
        with pytest.raises(CacheUnavailable, match=r"absent\.sock"):
            Refresher(status_dir, url=f"unix://{tmp_path}/absent.sock").open()

    def test_refresher_without_a_status_dir_fails_at_start(
        self, valkey: RunningServer, tmp_path: Path
    ) -> None:
        with pytest.raises(ConfigError, match=r"status_dir='.*absent'.*No such file"):
            Refresher(tmp_path / "absent", url=valkey.url).open()


class TestRequests:
    def test_refresh_waits_for_a_scan_that_began_later(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        with alive(valkey, status_dir, namespace, poll_interval=60) as (_, cache):
            for number in range(5):
                names = ("p", "g", "n", f"r{number}")
                write_run(status_dir, names)
                cache.refresh(wait=True, timeout=5)
                assert cache.get_job(*names) is not None

    def test_what_is_asked_between_two_leaders_is_not_lost(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN)
        with alive(valkey, status_dir, namespace):
            pass
        with JobCache(valkey.url, namespace=namespace) as cache:
            cache.refresh()
            with alive(valkey, status_dir, namespace, poll_interval=60), valkey.client() as redis:
                ((asked, _),) = redis.xrange(f"jobcache:{{{namespace}}}:requests")
                wait_for(lambda: cache.meta()["request_position"] == asked.decode())

    def test_refresh_without_a_refresher(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        with alive(valkey, status_dir, namespace) as (refresher, cache):
            refresher.close()
            with pytest.raises(CacheUnavailable, match=r"within 0\.2 s"):
                cache.refresh(wait=True, timeout=0.2)

    def test_invalidate_reaches_the_scanner_at_once(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        with alive(valkey, status_dir, namespace, poll_interval=60) as (_, cache):
            write_run(status_dir, RUN)
            cache.invalidate(*RUN)
            assert wait_for(lambda: cache.get_job(*RUN)) < 1
            write_run(status_dir, RUN, status="failed")
            cache.invalidate(*RUN)
            assert wait_for(lambda: cache.get_dashboard_stats().failed) < 1

    def test_delete_while_the_refresher_lives(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN)
        write_run(status_dir, OTHER)
        with alive(valkey, status_dir, namespace, settle=0.5) as (_, cache):
            delete_run(status_dir, RUN)
            cache.delete_job(*RUN)
            cache.delete_job(*OTHER)  # whose files are still there
            assert cache.list_all_jobs() == []
            wait_for(lambda: names_of(cache.list_all_jobs()) == [OTHER])
            cache.refresh(wait=True)
            assert names_of(cache.list_all_jobs()) == [OTHER]

    def test_a_deletion_while_no_refresher_runs_is_done_by_the_next(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN)
        write_run(status_dir, OTHER)
        with alive(valkey, status_dir, namespace):
            pass
        with JobCache(valkey.url, namespace=namespace, deadline=0.2) as cache:
            delete_run(status_dir, RUN)
            for names in (RUN, OTHER):
                with pytest.raises(CacheUnavailable, match="the request waits for one"):
                    cache.delete_job(*names)
        with alive(valkey, status_dir, namespace, settle=0.5) as (_, cache):
            # Its files count again once the filesystem can show nothing older any more.
            wait_for(lambda: names_of(cache.list_all_jobs()) == [OTHER])


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


def metrics_at(port: int) -> dict[str, float]:
    """Metrics by name, without labels."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
        lines = reply.read().decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name.partition("{")[0]: float(value) for name, value in pairs}


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
        with alive(valkey, status_dir, namespace):
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


class TestMetrics:
    def test_metrics_are_what_prometheus_reads(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN)
        write_raw(status_dir / "p" / "g" / "n" / "bad", b"{")
        port = free_port()

        def metrics() -> dict[str, float]:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
            lines = [line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#"]
            return {name: float(value) for name, value in lines}

        with alive(valkey, status_dir, namespace, metrics_port=port):
            label = f'{{namespace="{namespace}"}}'
            found = metrics()
            assert found["jobcache_jobs" + label] == 1
            assert found["jobcache_errors" + label] == 1
            assert found["jobcache_leader" + label] == 1
            assert found["jobcache_degraded" + label] == 0
            assert found["jobcache_held_deletions" + label] == 0
            assert abs(found["jobcache_completed_timestamp_seconds" + label] - time.time()) < 5
            added = f'jobcache_changes_total{{kind="added",namespace="{namespace}"}}'
            assert found[added] == 1
            assert found["jobcache_leadership_lost_total" + label] == 0
            assert found["jobcache_rebuilds_total" + label] == 1
            assert found["jobcache_repairs_total" + label] == 0
            with valkey.client() as redis:
                redis.delete(f"jobcache:{{{namespace}}}:jobs")
                wait_for(lambda: metrics()["jobcache_repairs_total" + label] == 1)
                redis.delete(f"jobcache:{{{namespace}}}:meta")
                wait_for(lambda: metrics()["jobcache_rebuilds_total" + label] == 2)
            status_dir.rename(status_dir.parent / "away")
            wait_for(lambda: metrics()["jobcache_degraded" + label])
        with pytest.raises(OSError):
            metrics()

    def test_metrics_port_that_is_taken_is_an_error(
        self, valkey: RunningServer, status_dir: Path
    ) -> None:
        with socket.create_server(("0.0.0.0", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigError, match=f"metrics_port={port}"):
                Refresher(status_dir, url=valkey.url, metrics_port=port).open()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class TestLocal:
    def test_local_cache_is_everything_in_one_object(self, status_dir: Path) -> None:
        write_run(status_dir, RUN)

        async def live() -> None:
            cache = LocalJobCache(status_dir, "polling", 0.2)
            await cache.start()
            assert names_of(cache.list_all_jobs()) == [RUN]
            write_run(status_dir, OTHER, status="failed")
            while cache.get_job(*OTHER) is None:
                await asyncio.sleep(0.05)
            assert cache.list_all_jobs(status=JobStatus.FAILED)[0].run_id == "r2"
            cache.invalidate(*RUN)
            await cache.stop()

        asyncio.run(live())

    def test_local_cache_of_a_bad_directory_leaves_no_server(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError):
            LocalJobCache(tmp_path / "absent").open()


class TestEmbedded:
    def test_embedded_server_is_private_and_leaves_no_trace(self) -> None:
        with EmbeddedServer() as server:
            directory = Path(server.url.removeprefix("unix://")).parent
            assert directory.stat().st_mode & 0o777 == 0o700
        assert not directory.exists()

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
    def test_embedded_server_is_gone_with_its_owner_however_it_ends(
        self, how: signal.Signals
    ) -> None:
        code = """
            import time
            from jobcache_refresher import EmbeddedServer
            server = EmbeddedServer()
            server.start()
            print(server.url, flush=True)
            time.sleep(60)
        """
        owner = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE
        )
        assert owner.stdout is not None
        url = owner.stdout.readline().decode().strip()
        owner.send_signal(how)
        owner.wait()
        owner.stdout.close()
        wait_for(lambda: not Path(url.removeprefix("unix://")).parent.exists())


def _target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""
