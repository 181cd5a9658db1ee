"""Every query, in every combination of filters, against a brute-force reading of the tree."""

from __future__ import annotations

from itertools import product

from jobcache import JobCache, JobMetadata
from tests.harness import Rig
from tests.trees import STATUSES, Names, Oracle, OracleJob, shown_value


def names_of(jobs: list[JobMetadata]) -> list[Names]:
    return [(job.project, job.group, job.name, job.run_id) for job in jobs]


def assert_agrees(rig: Rig) -> None:
    """Every answer of the cache is what the tree says, to a client that remembers and to one that does not."""
    oracle = Oracle(rig.status_dir)
    freshness = rig.cache.freshness()
    assert freshness.completed_at is not None
    completed_at = freshness.completed_at.timestamp()
    fresh_since = completed_at - rig.refresher.settings.stale_after

    for cache in (rig.cache, rig.forgetful):
        _assert_listings(cache, oracle)
        _assert_single_jobs(cache, oracle, fresh_since)
        _assert_windows(cache, oracle, completed_at, fresh_since)
        _assert_totals(cache, oracle, fresh_since)


def _assert_listings(cache: JobCache, oracle: Oracle) -> None:
    projects = [None, "absent", *oracle.projects()]
    groups = [None, "absent", *{job.names[1] for job in oracle.jobs}]
    for project, group, status in product(projects, groups, [None, *STATUSES]):
        expected = oracle.list_all_jobs(project, group, status)
        found = names_of(cache.list_all_jobs(project, group, status, limit=None))
        assert found == expected, (project, group, status)
        assert names_of(cache.list_all_jobs(project, group, status, limit=2)) == expected[:2]
        page = cache.page(project, group, status, limit=2)
        assert (names_of(page.jobs), page.total) == (expected[:2], len(expected))
    walked: list[Names] = []
    cursor = None
    while True:
        page = cache.page(limit=3, cursor=cursor)
        walked += names_of(page.jobs)
        if (cursor := page.cursor) is None:
            break
    assert walked == oracle.list_all_jobs(None, None, None)


def _assert_single_jobs(cache: JobCache, oracle: Oracle, fresh_since: float) -> None:
    fresh = {job.names for job in oracle.fresh(fresh_since)}
    for job in oracle.jobs:
        found = cache.get_job(*job.names)
        assert found is not None, job.names
        _assert_same(found, job, stale=job.status == "running" and job.names not in fresh)
        runs = names_of(cache.get_job_runs(*job.names[:3]))
        assert runs == oracle.runs(*job.names[:3])
    assert cache.get_job("absent", "a", "b", "c") is None
    assert cache.get_job_runs("absent", "a", "b") == []


def _assert_same(found: JobMetadata, job: OracleJob, *, stale: bool) -> None:
    document = shown_value(job.document)
    assert tuple(found.id) == job.names
    assert found.status.value == job.status
    assert found.start_time == (document.get("start_time") or "")
    assert found.last_heartbeat == document["last_heartbeat"]
    assert found.job_key == document["job_key"]
    assert found.slurm_job_id == document["slurm_job_id"]
    assert found.hardware.model_dump() == document["hardware"]
    assert found.config == document["config"]
    assert found.extra == shown_value(job.extra)
    written = document.get("status")
    assert found.status_text == (None if written == job.status else written)
    assert found.is_stale is stale


def _assert_windows(
    cache: JobCache, oracle: Oracle, completed_at: float, fresh_since: float
) -> None:
    for hours in (0, 0.5, 24, 1e6):
        expected = oracle.started_since(completed_at - hours * 3600)
        assert names_of(cache.get_recent_jobs(hours, limit=None)) == expected
        assert names_of(cache.get_recent_jobs(hours, limit=1)) == expected[:1]
    running = [job.names for job in oracle.fresh(fresh_since)]
    assert names_of(cache.get_running_jobs()) == running


def _assert_totals(cache: JobCache, oracle: Oracle, fresh_since: float) -> None:
    stats = cache.get_dashboard_stats()
    totals = oracle.totals(fresh_since)
    assert {name: getattr(stats, name) for name in totals} == totals
    assert stats.active_chips == sum(job.chips for job in oracle.fresh(fresh_since))
    assert stats.total_checkpoints == 0
    projects = cache.list_projects()
    assert stats.projects == projects
    assert [project.name for project in projects] == sorted(oracle.projects())
    for project in projects:
        totals = oracle.totals(fresh_since, project.name)
        assert {name: getattr(project, name) for name in totals} == totals
        assert project.groups == sorted(oracle.projects()[project.name])
    counts = cache.counts()
    assert counts.model_dump() == {
        name: value
        for name, value in stats.model_dump().items()
        if name not in {"projects", "total_checkpoints"}
    }
