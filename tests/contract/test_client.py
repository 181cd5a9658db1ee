"""What a client promises, on every kind of server."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import os
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from pydantic import TypeAdapter

from jobcache import (
    AsyncJobCache,
    CacheNotReady,
    CacheState,
    CacheUnavailable,
    ChangeKind,
    JobCache,
    JobMetadata,
    JobPage,
    JobStatus,
    SchemaMismatch,
)
from jobcache.ids import encode_name
from jobcache.queries.parsed_jobs import ParsedJobCache
from jobcache.queries.running import get_running_jobs
from jobcache.queries.source import Source
from jobcache.transport.drive import drive
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.tree import Fingerprint, Tree
from tests.contract.compare import assert_agrees, names_of
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
    write_raw,
    write_run,
)

RUN: Names = ("p", "g", "n", "20260204_094435")
OTHER: Names = ("p", "g", "n", "20260204_094436")


def ago(**span: float) -> str:
    return (datetime.now() - timedelta(**span)).isoformat()


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
            redis.hset(rig.refresher.keys.meta, "schema", 3)
        with pytest.raises(SchemaMismatch, match="version 3"):
            rig.cache.list_all_jobs()
        with pytest.raises(SchemaMismatch, match="version 3"):
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
        with pytest.raises(ValueError, match="limit=201"):
            cache.page(limit=201)
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
        assert first.cursor is not None
        # A cursor of the one is a cursor of the other.
        for other in (filters, same):
            assert rig.cache.page(*other, limit=200, cursor=first.cursor).jobs == expected[1:]


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


class HookedTree(Tree):
    """Calls a hook after each file that was read, while the scan is still in flight."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.after_read: Any = lambda: None

    def read_whole(
        self, path: bytes, name: bytes, cap: int, held: int | None = None
    ) -> tuple[Fingerprint, bytes]:
        result = super().read_whole(path, name, cap, held)
        self.after_read()
        return result


class TestDelete:
    def test_delete_job_is_gone_for_everybody_when_it_returns(self, rig: Rig) -> None:
        write_run(rig.status_dir, RUN)
        rig.refresh()
        with JobCache(rig.url, namespace=rig.namespace) as other:
            delete_run(rig.status_dir, RUN)
            assert rig.cache.delete_job(*RUN) is True
            assert other.get_job(*RUN) is None
            assert other.list_all_jobs() == []
            assert other.list_projects() == []
        assert rig.cache.delete_job(*RUN) is False
        rig.settle()
        assert_agrees(rig)

    def test_delete_job_is_not_undone_by_a_scan_in_flight(
        self, server: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        tree = HookedTree(str(status_dir))
        write_run(status_dir, RUN)
        with Rig(server.url, status_dir, namespace, tree=tree) as rig:
            write_run(status_dir, OTHER)
            rig.refresh()
            write_run(status_dir, RUN, status="failed")

            def delete() -> None:
                tree.after_read = lambda: None
                rig.cache.delete_job(*RUN)
                delete_run(status_dir, RUN)

            tree.after_read = delete
            rig.refresh()
            assert rig.cache.get_job(*RUN) is None
            assert names_of(rig.cache.list_all_jobs()) == [OTHER]
            rig.settle()
            assert_agrees(rig)

    def test_delete_job_of_one_never_published_keeps_it_away(
        self, server: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        tree = HookedTree(str(status_dir))
        with Rig(server.url, status_dir, namespace, tree=tree) as rig:
            rig.refresh()
            write_run(status_dir, RUN)

            def delete() -> None:
                tree.after_read = lambda: None
                assert rig.cache.delete_job(*RUN) is False
                delete_run(status_dir, RUN)

            tree.after_read = delete
            rig.refresh()
            assert rig.cache.get_job(*RUN) is None
            rig.settle()
            assert rig.cache.list_all_jobs() == []

    def test_deleted_job_returns_if_its_files_are_still_there(self, rig: Rig) -> None:
        write_run(rig.status_dir, RUN)
        rig.refresh()
        rig.cache.delete_job(*RUN)
        rig.refresh(Scope.POLL)
        assert rig.cache.get_job(*RUN) is None, "what another host removed may still show"
        rig.refresher.outwait_quarantines()
        rig.refresh(Scope.POLL)
        assert rig.cache.get_job(*RUN) is not None
        assert_agrees(rig)

    def test_tombstones_do_not_pile_up(self, rig: Rig, server: RunningServer) -> None:
        write_run(rig.status_dir, RUN)
        rig.refresh()
        delete_run(rig.status_dir, RUN)
        rig.cache.delete_job(*RUN)
        with server.client() as redis:
            assert redis.zcard(rig.refresher.keys.tombstones) == 1
            rig.settle()
            assert redis.zcard(rig.refresher.keys.tombstones) == 0


class TestInvalidate:
    def test_invalidate_reads_again_though_the_fingerprint_is_equal(self, rig: Rig) -> None:
        directory = write_run(rig.status_dir, RUN, status="running")
        old = datetime.now().timestamp() - 3600
        os.utime(directory / "metadata.json", (old, old))
        rig.refresh()
        run = rig.refresher.scanner.snapshot.runs["/".join(RUN).encode()]
        assert not run.racy
        write_raw(directory, json.dumps(metadata(status="failed")).encode())
        run.fingerprint = rig.refresher.tree.fingerprint(run.path, b"metadata.json")
        rig.refresh()
        assert rig.cache.list_all_jobs()[0].status is JobStatus.RUNNING, "the forgery did not work"
        rig.refresh(Scope.HINTS, hints=frozenset({run.path}))
        assert rig.cache.list_all_jobs()[0].status is JobStatus.FAILED

    def test_invalidate_discovers_a_run_that_was_unknown(self, rig: Rig) -> None:
        write_run(rig.status_dir, ("p", "g", "n", "old"))
        rig.refresh()
        for names in (RUN, ("q", "new", "new", "new")):
            write_run(rig.status_dir, names)
            rig.refresh(Scope.HINTS, hints=frozenset({"/".join(names).encode()}))
            assert rig.cache.get_job(*names) is not None

    def test_invalidate_of_an_absent_run_changes_nothing(self, rig: Rig) -> None:
        write_run(rig.status_dir, RUN)
        rig.refresh()
        rig.refresh(Scope.HINTS, hints=frozenset({b"a/b/c/d", b"p/g/n/x"}))
        assert_agrees(rig)


class TestChanges:
    def test_changes_tell_added_modified_and_deleted(self, rig: Rig) -> None:
        rig.refresh()
        feed = iter(rig.cache.changes(wait=0.0))
        assert list(feed) == []
        start = _position(rig)
        write_run(rig.status_dir, RUN)
        rig.refresh()
        write_run(rig.status_dir, RUN, status="failed")
        rig.refresh()
        rig.refresh()
        delete_run(rig.status_dir, RUN)
        rig.settle()
        seen = list(rig.cache.changes(start, wait=0.0))
        kinds = [ChangeKind.ADDED, ChangeKind.MODIFIED, ChangeKind.DELETED]
        assert [change.kind for change in seen] == kinds
        assert {change.id for change in seen} == {RUN}
        assert [change.kind for change in rig.cache.changes(seen[0].position, wait=0)] == kinds[1:]

    def test_a_rebuilt_cache_asks_for_a_resync(self, rig: Rig) -> None:
        rig.refresh()
        start = _position(rig)
        rig.refresher.rebuild()
        rig.refresh()
        (change,) = rig.cache.changes(start, wait=0)
        assert change.kind is ChangeKind.RESYNC
        assert list(rig.cache.changes(change.position, wait=0)) == []

    def test_a_trimmed_feed_asks_for_a_resync(self, rig: Rig, server: RunningServer) -> None:
        rig.refresh()
        start = _position(rig)
        for number in range(3):
            write_run(rig.status_dir, ("p", "g", "n", f"r{number}"))
            rig.refresh()
        with server.client() as redis:
            redis.xtrim(rig.refresher.keys.changes, maxlen=1, approximate=False)
        (change,) = rig.cache.changes(start, wait=0)
        assert change.kind is ChangeKind.RESYNC

    def test_changes_since_a_bad_position_is_a_value_error(self, rig: Rig) -> None:
        with pytest.raises(ValueError, match="since='x'"):
            next(iter(rig.cache.changes("x")))


def _position(rig: Rig) -> str:
    """The present end of the feed: that of a change made for the purpose."""
    marker = ("marker", "g", "n", "r")
    follow: Iterator[Any] = iter(rig.cache.changes(wait=5))

    write_run(rig.status_dir, marker)
    position: str | None = None
    timer = Timer(0.3, rig.refresh)
    timer.start()
    for change in follow:
        position = change.position
        break
    timer.join()
    assert position is not None
    return position


class TestAsync:
    def test_the_two_clients_have_the_same_calls(self) -> None:
        def surface(cls: type) -> dict[str, list[str]]:
            return {
                name: [
                    str(parameter) for parameter in inspect.signature(member).parameters.values()
                ]
                for name, member in vars(cls).items()
                if callable(member) and not name.startswith("_") and name not in {"open", "close"}
            }

        assert surface(AsyncJobCache) == surface(JobCache)

    def test_the_two_clients_give_the_same_answers(self, rig: Rig) -> None:
        for number in range(5):
            write_run(rig.status_dir, ("p", f"g{number % 2}", "n", f"r{number}"))
        rig.refresh()

        async def ask() -> None:
            async with rig.async_client() as cache:
                assert await cache.list_all_jobs() == rig.cache.list_all_jobs()
                assert await cache.get_job("p", "g0", "n", "r0") == rig.cache.get_job(
                    "p", "g0", "n", "r0"
                )
                assert await cache.get_dashboard_stats() == rig.cache.get_dashboard_stats()
                page = await cache.page(limit=2)
                assert page.jobs == rig.cache.page(limit=2).jobs
                assert cache.last_freshness == page.freshness
                assert [change async for change in cache.changes(wait=0)] == []
                assert await cache.meta() == rig.cache.meta()
                answers = await asyncio.gather(*(cache.list_projects() for _ in range(50)))
                assert answers == [rig.cache.list_projects()] * 50
                assert await cache.delete_job("p", "g0", "n", "r0") is True
                assert await cache.get_job("p", "g0", "n", "r0") is None

        asyncio.run(ask())

    def test_one_cache_on_several_event_loops(self, rig: Rig) -> None:
        rig.refresh()
        cache = AsyncJobCache(rig.url, namespace=rig.namespace)

        async def ask() -> None:
            assert await cache.list_all_jobs() == []
            await cache.stop()

        asyncio.run(ask())
        asyncio.run(ask())

    def test_the_sync_client_in_an_async_application(self, rig: Rig) -> None:
        rig.refresh()

        async def live() -> None:
            cache = JobCache(rig.url, namespace=rig.namespace)
            await cache.start()
            assert cache.list_all_jobs() == []
            await cache.stop()

        asyncio.run(live())

    def test_async_client_not_ready_names_the_place(
        self, server: RunningServer, namespace: str
    ) -> None:
        async def live() -> None:
            cache = AsyncJobCache(server.url, namespace=namespace, ready_timeout=0.1)
            with pytest.raises(CacheNotReady, match=namespace):
                await cache.start()
            await cache.stop()

        asyncio.run(live())


class TestNamespaces:
    def test_namespaces_do_not_see_each_other(self, rig: Rig, tmp_path: Path) -> None:
        other_dir = tmp_path / "other"
        other_dir.mkdir()
        write_run(rig.status_dir, RUN)
        write_run(other_dir, OTHER)
        rig.refresh()
        with Rig(rig.url, other_dir, rig.namespace + "-2") as other:
            other.refresh()
            assert names_of(other.cache.list_all_jobs()) == [OTHER]
            assert names_of(rig.cache.list_all_jobs()) == [RUN]


class TestParsedJobs:
    def test_query_takes_one_round_trip_cold_warm_and_after_changes(
        self,
        real_server: RunningServer,
        status_dir: Path,
        namespace: str,
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
        self,
        real_server: RunningServer,
        status_dir: Path,
        namespace: str,
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
