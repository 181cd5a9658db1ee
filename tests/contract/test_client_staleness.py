"""Which running jobs are stale, on every kind of server."""

from __future__ import annotations

from pathlib import Path

from tests.contract.client_runs import OTHER, RUN, ago
from tests.contract.compare import names_of
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import write_run


class TestStaleness:
    def test_stale_is_judged_as_of_the_last_completed_scan(self, rig: Rig) -> None:
        write_run(rig.status_dir, RUN, last_heartbeat=ago(seconds=299))
        write_run(rig.status_dir, OTHER, last_heartbeat=ago(seconds=301))
        rig.refresh()
        assert names_of(rig.cache.get_running_jobs()) == [RUN]
        stats = rig.cache.get_dashboard_stats()
        assert (stats.running, stats.stale, stats.active_chips) == (1, 1, 8)
        assert [job.is_stale for job in rig.cache.list_all_jobs()] == [True, False]

    def test_a_refresher_that_stopped_turns_no_job_stale(
        self, rig: Rig, server: RunningServer
    ) -> None:
        write_run(rig.status_dir, RUN)
        rig.refresh()
        with (
            server.client() as redis
        ):  # as if the last refresh were a day old, and the beat with it
            meta = rig.refresher.keys.meta
            day = 86400.0
            completed = float(redis.hget(meta, "completed_at"))
            redis.hset(meta, "completed_at", repr(completed - day))
            index = rig.refresher.keys.running
            member = "/".join(RUN)
            redis.zadd(index, {member: completed - day - 10})
            redis.hset(
                rig.refresher.keys.full(b"job:" + member.encode()),
                "heartbeat_at",
                completed - day - 10,
            )
        assert names_of(rig.cache.get_running_jobs()) == [RUN]
        assert not rig.cache.list_all_jobs()[0].is_stale
        age = rig.cache.freshness().age
        assert age is not None
        assert age > day - 60

    def test_active_chips_follow_the_clock(
        self, server: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN, last_heartbeat=ago(seconds=0))
        with Rig(server.url, status_dir, namespace, stale_after=1.0) as rig:
            write_run(status_dir, RUN)
            rig.refresh()
            assert rig.cache.get_dashboard_stats().active_chips == 8
            while rig.cache.get_running_jobs():
                rig.refresh()
            stats = rig.cache.get_dashboard_stats()
            assert (stats.active_chips, stats.running, stats.stale) == (0, 0, 1)
            write_run(status_dir, RUN)
            rig.refresh()
            assert rig.cache.get_dashboard_stats().active_chips == 8
            rig.cache.delete_job(*RUN)
            assert rig.cache.get_dashboard_stats().active_chips == 0
