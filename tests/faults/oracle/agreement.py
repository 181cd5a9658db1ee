"""(e): what readers are told, against a brute-force reading of the tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jobcache import CacheState, JobCache, JobCacheError, JobMetadata
from tests.trees import STATUSES, Names, Oracle, OracleJob


def disagreements(cache: JobCache, status_dir: Path, stale_after: float) -> list[str]:
    """How the answers differ from what the tree says; empty when they do not."""
    try:
        return list(_compare(cache, Oracle(status_dir), stale_after))
    except JobCacheError as error:
        return [repr(error)]


def _compare(cache: JobCache, oracle: Oracle, stale_after: float) -> Iterator[str]:
    freshness = cache.freshness()
    if freshness.state is not CacheState.READY:
        yield f"the state is {freshness.state.value}: {freshness.reason}"
    yield from _compare_listings(cache, oracle)
    yield from _compare_jobs(cache, oracle)
    running = _names(cache.get_running_jobs())
    fresh = oracle.fresh(_fresh_since(cache, stale_after))
    yield from _differ("running", running, [job.names for job in fresh])
    yield from _compare_totals(cache, oracle, stale_after)


def _compare_listings(cache: JobCache, oracle: Oracle) -> Iterator[str]:
    filters: list[tuple[str | None, str | None, str | None]] = [(None, None, None)]
    filters += [(project, None, None) for project in oracle.projects()]
    groups = {(job.names[0], job.names[1]) for job in oracle.jobs}
    filters += [(project, group, None) for project, group in sorted(groups)]
    filters += [(None, group, None) for group in sorted({group for _, group in groups})]
    filters += [(None, None, status) for status in STATUSES]
    for project, group, status in filters:
        found = _names(cache.list_all_jobs(project, group, status, limit=None))
        expected = oracle.list_all_jobs(project, group, status)
        yield from _differ(f"list {project, group, status}", found, expected)


def _compare_jobs(cache: JobCache, oracle: Oracle) -> Iterator[str]:
    found = {tuple(job.id): job for job in cache.list_all_jobs(limit=None)}
    for job in oracle.jobs:
        if (shown := found.get(job.names)) is not None and not _same(shown, job):
            yield f"{job.names} is shown as {shown!r}, and is {job.document}"


def _same(found: JobMetadata, job: OracleJob) -> bool:
    document = job.document
    return (
        found.status.value == job.status
        and found.start_time == document["start_time"]
        and found.last_heartbeat == document["last_heartbeat"]
        and found.hardware.model_dump() == document["hardware"]
        and found.config == document["config"]
    )


def _compare_totals(cache: JobCache, oracle: Oracle, stale_after: float) -> Iterator[str]:
    stats = cache.get_dashboard_stats()
    since = _fresh_since(cache, stale_after)
    for name, expected in oracle.totals(since).items():
        yield from _differ(name, getattr(stats, name), expected)
    chips = sum(job.chips for job in oracle.fresh(since))
    yield from _differ("active_chips", stats.active_chips, chips)
    groups = {project.name: project.groups for project in stats.projects}
    expected_groups = {name: sorted(groups) for name, groups in oracle.projects().items()}
    yield from _differ("projects", groups, expected_groups)


def _fresh_since(cache: JobCache, stale_after: float) -> float:
    freshness = cache.last_freshness
    assert freshness is not None
    assert freshness.completed_at is not None
    return freshness.completed_at.timestamp() - stale_after


def _names(jobs: list[JobMetadata]) -> list[Names]:
    return [(job.project, job.group, job.name, job.run_id) for job in jobs]


def _differ(what: str, found: object, expected: object) -> Iterator[str]:
    if found == expected:
        return
    if isinstance(found, list) and isinstance(expected, list):
        more = [one for one in found if one not in expected]
        less = [one for one in expected if one not in found]
        yield f"{what}: too many {more}, missing {less}" if more or less else f"{what}: order"
    else:
        yield f"{what}: {found}, not {expected}"
