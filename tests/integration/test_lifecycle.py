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
