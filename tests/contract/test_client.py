"""When a client answers, and that its answers are those of the tree, on every kind of server."""

from __future__ import annotations

import asyncio
import json
import math
import os
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from jobcache import (
    AsyncJobCache,
    CacheNotReady,
    CacheState,
    CacheUnavailable,
    JobCache,
    JobMetadata,
    JobPage,
    SchemaMismatch,
)
from jobcache.ids import encode_name
from jobcache.schema.keys import SCHEMA_VERSION
from tests.contract.client_runs import OTHER, RUN, ago
from tests.contract.compare import names_of
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import (
    STATUSES,
    Names,
    Oracle,
    delete_run,
    metadata,
    run_dir,
    shown_names,
    write_run,
)


class TestReadiness:
    def test_an_absent_cache_is_not_an_empty_one(
        self, server: RunningServer, namespace: str
    ) -> None:
        cache = JobCache(server.url, namespace=namespace, ready_timeout=0.2)
        for call in (cache.list_all_jobs, cache.list_projects, cache.get_running_jobs):
            with pytest.raises(CacheNotReady, match=namespace):
                call()
        with pytest.raises(CacheNotReady):
            cache.get_job(*RUN)
        with pytest.raises(CacheNotReady):
            cache.list_all_jobs(project="a/b")
        assert cache.freshness().state is CacheState.ABSENT
        with pytest.raises(CacheNotReady, match=r"namespace.*(unix|redis)://.*waited 0.2 s"):
            cache.open()
        cache.close()

    def test_a_cache_under_construction_does_not_answer(self, rig: Rig) -> None:
        assert rig.cache.freshness().state is CacheState.BUILDING
        with pytest.raises(CacheNotReady, match="first scan"):
            rig.cache.list_all_jobs()

    def test_an_empty_tree_is_an_empty_answer(self, rig: Rig) -> None:
        rig.refresh()
        assert rig.cache.list_all_jobs() == []
        assert rig.cache.list_projects() == []
        assert rig.cache.get_dashboard_stats().total_jobs == 0
        assert rig.cache.freshness().state is CacheState.READY

    def test_a_schema_from_the_future_is_refused(self, rig: Rig, server: RunningServer) -> None:
        rig.refresh()
        with server.client() as redis:
            redis.hset(rig.refresher.keys.meta, "schema", SCHEMA_VERSION + 1)
        with pytest.raises(SchemaMismatch, match=f"version {SCHEMA_VERSION + 1}"):
            rig.cache.list_all_jobs()
        with pytest.raises(SchemaMismatch, match=f"version {SCHEMA_VERSION + 1}"):
            rig.refresher.lead()

    def test_client_where_nothing_listens_is_unavailable(self, tmp_path: Path) -> None:
        cache = JobCache(f"unix://{tmp_path}/absent.sock")
        with pytest.raises(CacheUnavailable, match=r"absent\.sock"):
            cache.get_job(*RUN)

    def test_freshness_of_an_answer(self, rig: Rig) -> None:
        write_run(rig.status_dir, RUN)
        rig.refresh()
        rig.cache.list_all_jobs()
        seen = rig.cache.last_freshness
        assert seen is not None
        assert seen.state is CacheState.READY
        assert seen.completed_at is not None
        assert seen.age is not None
        assert 0 <= seen.age < 5
        before = seen.generation
        rig.refresh()
        rig.cache.get_job(*RUN)
        assert rig.cache.last_freshness is not None
        assert rig.cache.last_freshness.generation > before


class TestQueries:
    def test_arguments_are_checked(self, rig: Rig) -> None:
        rig.refresh()
        cache = rig.cache
        with pytest.raises(ValueError, match="limit=-1"):
            cache.list_all_jobs(limit=-1)
        with pytest.raises(ValueError, match="limit=-2"):
            cache.get_recent_jobs(limit=-2)
        with pytest.raises(ValueError, match="status='bogus'"):
            cache.list_all_jobs(status="bogus")
        with pytest.raises(ValueError, match="hours=-1"):
            cache.get_recent_jobs(hours=-1)
        with pytest.raises(ValueError, match="hours=nan"):
            cache.get_recent_jobs(hours=math.nan)
        with pytest.raises(ValueError, match="limit=1001"):
            cache.page(limit=1001)
        with pytest.raises(ValueError, match="cursor='x'"):
            cache.page(cursor="x")
        with pytest.raises(ValueError, match="no directory"):
            cache.delete_job("a/b", "g", "n", "r")
        with pytest.raises(ValueError, match="no directory"):
            cache.invalidate("..", "g", "n", "r")

    def test_impossible_names_match_nothing(self, rig: Rig) -> None:
        write_run(rig.status_dir, RUN)
        rig.refresh()
        for name in (".", "..", "a/b", "\0", "\ud800", " "):
            assert rig.cache.list_all_jobs(project=name) == []
            assert rig.cache.list_all_jobs(group=name) == []
            assert rig.cache.page(project=name).total == 0
        for name in ("", ".", "..", "a/b", "\0", "\ud800"):
            assert rig.cache.get_job(name, "g", "n", "r") is None
            assert rig.cache.get_job_runs("p", name, "n") == []

    def test_null_project_is_found_under_the_directories_names(self, rig: Rig) -> None:
        names = ("general", "default", "n", "r1")
        write_run(rig.status_dir, names, project=None, group=None)
        rig.refresh()
        job = rig.cache.get_job(*names)
        assert job is not None
        assert (job.project, job.group) == ("general", "default")
        assert names_of(rig.cache.list_all_jobs(project="general", group="default")) == [names]

    def test_two_copies_of_one_document_are_two_jobs(self, rig: Rig) -> None:
        document = metadata(project="p", group="g", name="n", run_id="r")
        for names in (RUN, OTHER):
            write_run(rig.status_dir, names, **document)
        rig.refresh()
        assert names_of(rig.cache.list_all_jobs()) == [OTHER, RUN]

    def test_listings_longer_than_one_step(self, rig: Rig) -> None:
        start = ago(hours=1)
        for number in range(450):
            # All equal in time: the walk from step to step rests on ids alone.
            write_run(
                rig.status_dir, ("p", f"g{number % 3}", "n", f"r{number:03}"), start_time=start
            )
        rig.refresh()
        assert len(rig.cache.list_all_jobs()) == 100
        assert len(rig.cache.list_all_jobs(limit=None)) == 450
        assert len(rig.cache.list_all_jobs(limit=401)) == 401
        assert len(rig.cache.list_all_jobs(group="g1", limit=None)) == 150
        assert len(rig.cache.get_running_jobs()) == 450
        assert rig.cache.get_running_jobs() == rig.cache.list_all_jobs(limit=None)
        assert rig.cache.get_dashboard_stats().active_chips == 450 * 8

    @pytest.mark.parametrize("equal", [1, 4], ids=["no ties", "ties across statuses"])
    def test_a_group_is_one_listing_over_all_statuses(self, rig: Rig, equal: int) -> None:
        for number in range(24):
            started = (datetime(2026, 2, 1) + timedelta(minutes=number // equal)).isoformat()
            names = ("p", "g", "n", f"r{number * 7 % 24:02}")
            write_run(rig.status_dir, names, status=STATUSES[number % 4], start_time=started)
        rig.refresh()
        expected = Oracle(rig.status_dir).list_all_jobs("p", "g", None)
        assert len(expected) == 24
        for limit in (1, 5, 23, 24, 100, None):
            for cache in (rig.cache, rig.forgetful):
                assert names_of(cache.list_all_jobs("p", "g", limit=limit)) == expected[:limit]
        walked, cursor = [], None
        while True:
            page = rig.cache.page("p", "g", limit=5, cursor=cursor)
            walked += names_of(page.jobs)
            if (cursor := page.cursor) is None:
                break
        assert walked == expected

    def test_pages_while_jobs_come_and_go(self, rig: Rig) -> None:
        def name(number: int) -> Names:
            return ("p", "g", "n", f"r{number:02}")

        for number in range(20):
            write_run(rig.status_dir, name(number), start_time=ago(hours=100 - number))
        rig.refresh()
        page = rig.cache.page(limit=5)
        walked = names_of(page.jobs)
        assert page.total == 20
        for number in range(20, 30):
            write_run(rig.status_dir, name(number), start_time=ago(seconds=1))
        delete_run(rig.status_dir, name(15))  # the very job the cursor names
        delete_run(rig.status_dir, name(10))
        write_run(rig.status_dir, name(9), start_time=ago(hours=91), status="failed")
        rig.settle()
        while page.cursor:
            page = rig.cache.page(limit=5, cursor=page.cursor)
            walked += names_of(page.jobs)
        unchanged = [name(number) for number in reversed(range(20)) if number != 10]
        assert walked == unchanged

    def test_recent_jobs_start_within_the_window_and_the_limit_keeps_the_newest(
        self, rig: Rig
    ) -> None:
        for hour in range(5):
            write_run(rig.status_dir, ("p", "g", "n", f"r{hour}"), start_time=ago(hours=hour + 0.5))
        rig.refresh()
        assert [job.run_id for job in rig.cache.get_recent_jobs(hours=3)] == ["r0", "r1", "r2"]
        assert [job.run_id for job in rig.cache.get_recent_jobs(hours=3, limit=2)] == ["r0", "r1"]

    def test_nothing_of_a_document_is_lost(self, rig: Rig) -> None:
        config = {
            "inf": math.inf,
            "big": 2**80,
            "sur": "\ud800 \udcff",
            "": [None, 1e-5, 0.1, -0.0],
            "é": {},
        }
        write_run(
            rig.status_dir,
            RUN,
            log="x\n\x1b[1mWANDB | project=p run_id=r url=https://wandb.ai/l/p/runs/1\x1b[0m\n",
            config=config,
            job_key="\udcff\ud800",
            slurm_job_id=None,
            hardware={"chip": None, "total_chips": 3, "hosts": ["h"]},
        )
        rig.refresh()
        job = rig.cache.get_job(*RUN)
        assert job is not None
        assert job.config == config | {"sur": "\\ud800 \uefff"}
        assert job.job_key == "\uefff\\ud800"
        assert job.slurm_job_id is None
        assert job.hardware.model_dump() == {"chip": None, "total_chips": 3, "hosts": ["h"]}
        assert job.wandb_url == "https://wandb.ai/l/p/runs/1"
        assert job.metadata_path == str(run_dir(rig.status_dir, RUN) / "metadata.json")
        assert job.log_path == str(run_dir(rig.status_dir, RUN) / "output.log")

    def test_whatever_a_job_holds_can_be_written_and_found_again(self, rig: Rig) -> None:
        odd = "\ud800\udcff\ueff0\ud83d"
        hardware = {"chip": odd, "total_chips": 3, "hosts": [odd]}
        odd_names = [b"p", b"\xff", b"\xc3", b"\xed\xa0\x80", "\uef00 ".encode()]
        given: list[Names] = [(os.fsdecode(name), "g", "n\udcff", "r") for name in odd_names]
        # As os.fsdecode gives it, this one looks like a byte.
        looks_like_a_byte: Names = ("\uefff", "g", "n", "r")
        for names in [*given, looks_like_a_byte]:
            write_run(
                rig.status_dir,
                names,
                log="x\n",
                config={odd: [odd], chr(0xD800): 1, chr(0xD801): {"\udc80": odd}},
                job_key=odd,
                slurm_job_id=odd,
                start_time=odd,
                last_heartbeat=odd,
                hardware=hardware,
            )
        rig.refresh()
        jobs = rig.cache.list_all_jobs(limit=None)
        assert len(jobs) == len({job.id for job in jobs}) == 6
        listing = TypeAdapter(list[JobMetadata])
        assert json.loads(listing.dump_json(jobs)) == json.loads(
            json.dumps([job.model_dump(mode="json") for job in jobs], ensure_ascii=False).encode()
        )
        for job in jobs:
            assert JobMetadata.model_validate_json(job.model_dump_json()).id == job.id
            assert rig.cache.get_job(job.project, job.group, job.name, job.run_id) == job
            assert rig.cache.list_all_jobs(job.project, job.group) == [job]
            assert rig.cache.get_job_runs(job.project, job.group, job.name) == [job]
            assert job.metadata_path is not None
            assert os.path.exists(encode_name(job.metadata_path))
            assert len(job.config) == 3
        for names in given:
            found = rig.cache.get_job(*names)
            assert found is not None, names
            assert found.id == shown_names(names)
            assert rig.cache.list_all_jobs(*names[:2]) == [found]
        assert shown_names(looks_like_a_byte) in {job.id for job in jobs}
        stats = rig.cache.get_dashboard_stats()
        assert json.loads(stats.model_dump_json())["total_jobs"] == 6
        assert {project.name for project in stats.projects} == {job.project for job in jobs}
        for job in jobs:
            assert rig.cache.delete_job(*job.id)
        assert rig.cache.list_all_jobs() == []

    def test_answers_are_the_callers_own(self, rig: Rig) -> None:
        write_run(rig.status_dir, RUN)
        rig.refresh()
        job = rig.cache.list_all_jobs()[0]
        job.config["mine"] = 1
        job.hardware.hosts.append("mine")
        stats = rig.cache.get_dashboard_stats()
        stats.total_checkpoints = 7
        again = rig.cache.get_job(*RUN)
        assert again is not None
        assert "mine" not in again.config
        assert "mine" not in again.hardware.hosts
        assert rig.cache.get_dashboard_stats().total_checkpoints == 0

    @pytest.mark.parametrize("filters", [*product(("", "p"), ("", "g"), ("", "failed"))])
    def test_empty_text_is_no_filter(self, rig: Rig, filters: tuple[str, str, str]) -> None:
        for number, status in enumerate(["running", "failed", "failed", "completed"]):
            for project in ("p", "q"):
                names = (project, "gh"[number % 2], "n", f"r{number}")
                write_run(rig.status_dir, names, status=status)
        rig.refresh()
        project, group, status = filters
        same = (project or None, group or None, status or None)
        expected = rig.cache.list_all_jobs(*same)
        assert expected
        assert rig.cache.list_all_jobs(*filters) == expected

        async def look() -> tuple[list[JobMetadata], JobPage]:
            async with AsyncJobCache(rig.url, namespace=rig.namespace) as cache:
                return await cache.list_all_jobs(*filters), await cache.page(*filters, cursor="")

        listed, page = asyncio.run(look())
        assert (listed, page.jobs, page.total) == (expected, expected, len(expected))
        first = rig.cache.page(*filters, limit=1, cursor="")
        assert (first.jobs, first.total) == (expected[:1], len(expected))
        assert (first.cursor is None) == (len(expected) == 1)
        # A cursor of the one is a cursor of the other.
        for other in (filters, same) if first.cursor else ():
            assert rig.cache.page(*other, limit=200, cursor=first.cursor).jobs == expected[1:]
