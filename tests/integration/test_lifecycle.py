"""Refreshers and caches that live: threads, leases, requests, restarts."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from jobcache import CacheState, CacheUnavailable, ConfigError, JobCache, JobStatus
from jobcache_refresher import EmbeddedServer, LocalJobCache, Refresher
from tests.contract.compare import names_of
from tests.integration.living import OTHER, RUN, alive, free_port, wait_for
from tests.servers import RunningServer
from tests.trees import delete_run, write_raw, write_run


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
        (tmp_path / "file").touch()
        cache = LocalJobCache(tmp_path / "file")
        with pytest.raises(ConfigError, match="Not a directory"):
            cache.open()
        assert not socket_directory(cache).exists()
        with pytest.raises(CacheUnavailable, match="is stopped"):
            cache.open()

    @pytest.mark.parametrize("mode", ["polling", "watchdog"])
    def test_local_cache_of_a_directory_that_is_still_to_come_is_empty_and_waits(
        self, tmp_path: Path, mode: str
    ) -> None:
        root = tmp_path / "a" / "status"
        with LocalJobCache(root, mode, 0.1) as cache:
            assert cache.list_all_jobs() == []
            assert cache.get_dashboard_stats().total_jobs == 0
            fresh = cache.freshness()
            assert fresh.state is CacheState.DEGRADED
            assert "does not exist yet" in (fresh.reason or "")
            write_run(root, RUN)
            wait_for(cache.list_all_jobs)
            wait_for(lambda: cache.freshness().state is CacheState.READY)

    def test_local_cache_keeps_its_jobs_when_the_directory_goes(self, status_dir: Path) -> None:
        write_run(status_dir, RUN)
        with LocalJobCache(status_dir, poll_interval=0.1) as cache:
            status_dir.rename(status_dir.parent / "away")
            wait_for(lambda: cache.freshness().state is CacheState.DEGRADED)
            assert names_of(cache.list_all_jobs()) == [RUN]

    def test_local_cache_that_is_not_open_says_so(self, status_dir: Path) -> None:
        cache = LocalJobCache(status_dir)
        calls: list[Callable[[], object]] = [
            cache.list_all_jobs,
            cache.freshness,
            cache.refresh,
            lambda: cache.delete_job(*RUN),
            lambda: next(cache.changes(wait=0)),
        ]
        for call in calls:
            with pytest.raises(CacheUnavailable, match=r"not started: call start\(\)"):
                call()
        with cache:
            assert cache.open() is cache
            for call in calls[:3]:
                call()
        cache.close()
        for call in [*calls, cache.open, lambda: asyncio.run(cache.start())]:
            with pytest.raises(CacheUnavailable, match="is stopped: make a new one"):
                call()

    def test_local_cache_stops_in_a_tenth_of_a_second(self, status_dir: Path) -> None:
        write_run(status_dir, RUN)
        took = []
        for _ in range(5):
            with LocalJobCache(status_dir) as cache:
                directory = socket_directory(cache)
                began = time.monotonic()
            took.append(time.monotonic() - began)
            assert not directory.exists()
        assert min(took) < 0.1

    def test_local_caches_of_one_host_know_nothing_of_each_other(
        self, status_dir: Path, tmp_path: Path
    ) -> None:
        write_run(status_dir, RUN)
        write_run(tmp_path / "other", OTHER)
        with LocalJobCache(status_dir, poll_interval=0.1) as first:
            with (
                LocalJobCache(status_dir, poll_interval=0.1) as twin,
                LocalJobCache(tmp_path / "other", poll_interval=0.1) as other,
            ):
                assert names_of(twin.list_all_jobs()) == names_of(first.list_all_jobs()) == [RUN]
                assert names_of(other.list_all_jobs()) == [OTHER]
            first.refresh(wait=True)
            assert names_of(first.list_all_jobs()) == [RUN]

    def test_local_cache_of_a_parent_outlives_a_child_that_stops_it(self, status_dir: Path) -> None:
        write_run(status_dir, RUN)
        code = """
            import os, sys
            from jobcache_refresher import LocalJobCache
            with LocalJobCache(sys.argv[1]) as cache:
                child = os.fork()
                if child == 0:
                    assert len(cache.list_all_jobs()) == 1
                    cache.close()
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
                cache.refresh(wait=True, timeout=5)
                assert len(cache.list_all_jobs()) == 1
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(status_dir)]
        subprocess.run(command, check=True, timeout=30)


def socket_directory(cache: LocalJobCache) -> Path:
    return Path(cache._embedded.url.removeprefix("unix://")).parent


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
