"""What a process remembers of answers: what travels, and that it is never wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobcache import JobCache, JobMetadata, JobStatus
from jobcache.queries.parsed_jobs import ParsedJobCache
from jobcache.queries.running import get_running_jobs
from jobcache.queries.source import Source
from jobcache.transport.drive import drive
from tests.contract.client_runs import OTHER, RUN
from tests.contract.compare import assert_agrees, names_of
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import delete_run, write_run


class TestParsedJobs:
    def test_query_takes_one_round_trip_cold_warm_and_after_changes(
        self, real_server: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        for number in range(30):
            write_run(status_dir, ("p", f"g{number % 3}", "n", f"r{number:02}"))
        with Rig(real_server.url, status_dir, namespace) as rig, real_server.client() as redis:
            rig.refresh()
            for change in (None, None, ("p", "g0", "n", "r00"), ("p", "g1", "n", "new")):
                if change:
                    write_run(status_dir, change, status="running", slurm_job_id="changed")
                    rig.refresh()
                for call in (
                    lambda: rig.cache.list_all_jobs(),
                    lambda: rig.cache.list_all_jobs(group="g1"),
                    lambda: rig.cache.get_running_jobs(),
                    lambda: rig.cache.get_recent_jobs(),
                    lambda: rig.cache.page(limit=10),
                    lambda: rig.cache.get_job_runs("p", "g0", "n"),
                    lambda: rig.cache.get_job("p", "g0", "n", "r00"),
                    lambda: rig.cache.get_dashboard_stats(),
                ):
                    call()
                    call()  # some read in two steps what they met for the first time
                    for _ in range(2):
                        rig.replies.clear()
                        call()
                        assert len(rig.replies) == 1
                        # Something else was written: which jobs are the same is told, and they do not travel.
                        redis.hincrby(rig.refresher.keys.meta, "generation", 1)
                assert_agrees(rig)

    def test_answer_travels_once_in_a_generation(
        self, real_server: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        for number in range(30):
            write_run(status_dir, ("p", f"g{number % 3}", "n", f"r{number:02}"), status="running")
        with Rig(real_server.url, status_dir, namespace) as rig:
            rig.refresh()
            calls: list[Callable[[], Any]] = [
                lambda: rig.cache.list_all_jobs(),
                lambda: rig.cache.list_all_jobs("p", "g1", "running", limit=5),
                lambda: rig.cache.get_running_jobs(),
                lambda: rig.cache.get_recent_jobs(),
                lambda: rig.cache.page(limit=10).jobs,
                lambda: rig.cache.get_job_runs("p", "g0", "n"),
                lambda: rig.cache.get_dashboard_stats(),
            ]
            for call in calls:
                first = call()
                assert len(rig.replies[-1]) > 1
                again = call()
                assert len(rig.replies[-1]) == 1
                assert again == first
                rig.refresh()
                call()
                assert len(rig.replies[-1]) > 1

    def test_answer_of_another_epoch_is_not_given_again(
        self, rig: Rig, server: RunningServer
    ) -> None:
        write_run(rig.status_dir, RUN)
        write_run(rig.status_dir, OTHER)
        rig.refresh()
        assert len(rig.cache.list_all_jobs()) == rig.cache.counts().total_jobs == 2
        keys = rig.refresher.keys
        with server.client() as redis:
            redis.zrem(keys.jobs, "/".join(OTHER))
            redis.hset(keys.meta, "epoch", "another")
        assert names_of(rig.cache.list_all_jobs()) == [RUN]
        assert rig.cache.counts().total_jobs == 1

    def test_answer_never_mixes_two_epochs(self, rig: Rig, server: RunningServer) -> None:
        """Revisions begin anew with each epoch, so an equal one of another epoch means nothing."""
        # Too large to be kept, so that a known answer takes a second step.
        write_run(rig.status_dir, RUN, status="failed", config={"large": "x" * 10_000})
        rig.refresh()
        keys = rig.refresher.keys

        def rebuild() -> None:
            rig.on_reply = lambda: None
            with server.client() as redis:
                redis.hset(keys.meta, "epoch", "another")
                redis.hset(keys.full(b"job:" + "/".join(RUN).encode()), "status", "completed")

        with rig.client(memo_bytes=16_000) as cache:
            cache.list_all_jobs()
            rig.on_reply = rebuild
            (job,) = cache.list_all_jobs()
            fresh = cache.last_freshness
        assert fresh is not None
        assert (fresh.epoch, job.status) == ("another", JobStatus.COMPLETED)

    def test_parsed_job_that_was_dropped_is_fetched_again(self, rig: Rig) -> None:
        """The answer is still known, but not all of its jobs."""
        for number in range(5):
            write_run(rig.status_dir, ("p", "g", "n", f"r{number}"), config={"large": "x" * 5_000})
        rig.refresh()
        with rig.client(memo_bytes=32_000) as cache:
            first = cache.list_all_jobs()
            rig.replies.clear()
            assert cache.list_all_jobs() == first
            answer, fetched = rig.replies
            assert len(answer) == 1, "the answer is known"
            assert 0 < len(fetched[1]) < 5, "and some of its jobs"
            delete_run(rig.status_dir, ("p", "g", "n", "r3"))
            rig.settle()
            assert cache.list_all_jobs() == rig.forgetful.list_all_jobs()

    @pytest.mark.parametrize(("told", "read"), [(4, 3), (9, 3), (20, 7), (20, 20)])
    def test_running_jobs_beyond_one_step_come_in_parts(
        self, rig: Rig, server: RunningServer, told: int, read: int
    ) -> None:
        source = Source(rig.refresher.keys, "here", ParsedJobCache(1 << 20))
        for number in range(13):
            write_run(rig.status_dir, ("p", "g", "n", f"r{number:02}"), status="running")
        rig.refresh()
        rig.refresh()
        with server.client() as redis:
            replies: list[Any] = []

            def run(step: Any) -> Any:
                keys, args = step.keys, step.args
                replies.append(redis.eval(step.script.source, len(keys), *keys, *args))
                return replies[-1]

            def running() -> list[JobMetadata]:
                return drive(get_running_jobs(source, told, read), run, ()).value

            assert len(running()) == 13
            rows = replies[0][2]
            assert len(rows) == min(told, 13)
            assert sum(len(row) == 2 for row in rows) == min(read, len(rows))
            for change in ("r03", "r20"):
                write_run(
                    rig.status_dir, ("p", "g", "n", change), status="running", job_key="changed"
                )
                rig.refresh()
                assert running() == rig.forgetful.get_running_jobs()

    def test_answers_are_the_same_without_and_with_a_tiny_memory(self, rig: Rig) -> None:
        for number in range(250):
            write_run(rig.status_dir, ("p", f"g{number % 3}", "n", f"r{number:03}"))
        rig.refresh()
        for memo_bytes in (0, 50_000):
            with JobCache(
                rig.url, namespace=rig.namespace, memo_bytes=memo_bytes, deadline=10
            ) as other:
                for _ in range(2):
                    assert other.list_all_jobs(limit=None) == rig.cache.list_all_jobs(limit=None)
                    assert other.get_running_jobs() == rig.cache.get_running_jobs()
                    assert other.list_all_jobs(group="g2") == rig.cache.list_all_jobs(group="g2")

    def test_rebuilt_cache_whose_revisions_start_over_is_read_anew(self, rig: Rig) -> None:
        write_run(rig.status_dir, RUN, status="failed")
        for _ in range(3):
            rig.refresh()
        assert rig.cache.get_job(*RUN) is not None
        assert rig.cache.list_all_jobs()
        write_run(rig.status_dir, RUN, status="completed")
        rig.refresher.rebuild()
        rig.refresh()
        assert_agrees(rig)
