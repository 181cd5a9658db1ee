"""The calls that list jobs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from jobcache.arguments import NUMBER, require_type
from jobcache.ids import is_name
from jobcache.models import JobMetadata, JobPage, JobStatus
from jobcache.queries.answer import Answer, AnswerMetadata, build
from jobcache.queries.cursor import Cursor
from jobcache.queries.fetch import CHUNK
from jobcache.queries.filters import can_match, check_limit, read_filters
from jobcache.queries.freshness import nothing
from jobcache.queries.paging import Found, list_jobs, read_page
from jobcache.queries.query import Query
from jobcache.queries.source import Source
from jobcache.schema import keys as names
from jobcache.schema.index import filter_indexes
from jobcache.schema.job import ParsedJob


def list_all_jobs(
    source: Source,
    project: str | None,
    group: str | None,
    status: JobStatus | str | None,
    limit: int | None,
) -> Query[Answer[list[JobMetadata]]]:
    """Jobs that match the filters, newest start first."""
    check_limit(limit)
    project, group, wanted = read_filters(project, group, status)
    if not can_match(project, group):
        return (yield from nothing(source))
    return (yield from list_jobs(source, filter_indexes(project, group, wanted), limit))


def page(
    source: Source,
    project: str | None,
    group: str | None,
    status: JobStatus | str | None,
    limit: int,
    cursor: str | None,
) -> Query[Answer[JobPage]]:
    """One page of what the filters match."""
    require_type("limit", limit, int)
    require_type("cursor", cursor, str, optional=True)
    if not 1 <= limit <= CHUNK:
        raise ValueError(f"limit={limit}: a page holds 1 to {CHUNK} jobs")
    project, group, wanted = read_filters(project, group, status)
    after = Cursor.read(cursor) if cursor else None
    if not can_match(project, group):
        found = yield from nothing(source)
        return Answer(_build_empty_page, found.header)
    indexes = filter_indexes(project, group, wanted)
    rows = yield from read_page(
        source, indexes, limit=limit, signature=(*indexes, limit, cursor, "page"), after=after
    )
    return Answer(partial(_build_page, rows.found, rows.jobs), rows.header, rows.jobs)


def _build_empty_page(metadata: AnswerMetadata) -> JobPage:
    return JobPage(jobs=[], total=0, cursor=None, freshness=metadata.freshness)


def _build_page(found: Found, jobs: Sequence[ParsedJob], metadata: AnswerMetadata) -> JobPage:
    return JobPage.model_construct(
        jobs=build(jobs, metadata),
        total=found.total,
        cursor=str(found.last) if found.last else None,
        freshness=metadata.freshness,
    )


def get_job_runs(
    source: Source, project: str, group: str, name: str
) -> Query[Answer[list[JobMetadata]]]:
    """Every run of one job name, newest start first."""
    for argument, value in (("project", project), ("group", group), ("name", name)):
        require_type(argument, value, str)
    if not all(map(is_name, (project, group, name))):
        return (yield from nothing(source))
    index = names.runs_index(project, group, name)
    prefix = names.runs_prefix(project, group, name)
    return (yield from list_jobs(source, [index], None, member_prefix=prefix))


def get_recent_jobs(
    source: Source, hours: float, limit: int | None
) -> Query[Answer[list[JobMetadata]]]:
    """Jobs that started within some hours before the last completed scan, newest first."""
    check_limit(limit)
    require_type("hours", hours, *NUMBER)
    if not hours >= 0:
        raise ValueError(f"hours={hours}: use a number from 0")
    return (yield from list_jobs(source, [names.JOBS], limit, window=hours * 3600))
