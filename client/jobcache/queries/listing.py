"""The calls that list jobs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from jobcache.arguments import NUMBER, require_type
from jobcache.ids import is_name
from jobcache.models import JobMetadata, JobPage
from jobcache.queries.answer import Answer, AnswerMetadata, build
from jobcache.queries.cursor import Cursor
from jobcache.queries.filters import Filters, Span, check_limit
from jobcache.queries.freshness import nothing
from jobcache.queries.paging import Follows, Found, read_list
from jobcache.queries.plan import Plan, make_plan
from jobcache.queries.query import Query
from jobcache.queries.source import Source
from jobcache.schema import keys as names
from jobcache.schema.job import ParsedJob

LARGEST_PAGE = 1000
"""Most jobs of one page."""


def list_all_jobs(
    source: Source, filters: Filters, limit: int | None
) -> Query[Answer[list[JobMetadata]]]:
    """Jobs that match the filters, in their order."""
    check_limit(limit)
    if not filters.can_match:
        return (yield from nothing(source))
    return (yield from _list(source, make_plan(filters), limit))


def page(
    source: Source, filters: Filters, limit: int, cursor: str | None
) -> Query[Answer[JobPage]]:
    """One page of what the filters match."""
    require_type("limit", limit, int)
    require_type("cursor", cursor, str, optional=True)
    if not 1 <= limit <= LARGEST_PAGE:
        raise ValueError(f"limit={limit}: a page holds 1 to {LARGEST_PAGE} jobs")
    digest = filters.digest
    after = Cursor.read(cursor, digest) if cursor else None
    if not filters.can_match:
        found = yield from nothing(source)
        return Answer(_build_empty_page, found.header)
    rows = yield from read_list(source, make_plan(filters), limit, after=after, to_next=True)
    return Answer(partial(_build_page, rows.found, digest, rows.jobs), rows.header, rows.jobs)


def _build_empty_page(metadata: AnswerMetadata) -> JobPage:
    return JobPage(jobs=[], total=0, cursor=None, freshness=metadata.freshness)


def _build_page(
    found: Found, digest: str, jobs: Sequence[ParsedJob], metadata: AnswerMetadata
) -> JobPage:
    return JobPage.model_construct(
        jobs=build(jobs, metadata),
        total=found.total,
        cursor=found.last.show(digest) if found.last and found.follows is Follows.MORE else None,
        freshness=metadata.freshness,
    )


def _list(source: Source, plan: Plan, limit: int | None) -> Query[Answer[list[JobMetadata]]]:
    rows = yield from read_list(source, plan, limit)
    return Answer.of(rows.jobs, rows.header)


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
    return (yield from _list(source, Plan((index,), member_prefix=prefix), None))


def get_recent_jobs(
    source: Source, hours: float, limit: int | None
) -> Query[Answer[list[JobMetadata]]]:
    """Jobs that started within some hours before the last completed scan, newest first."""
    check_limit(limit)
    require_type("hours", hours, *NUMBER)
    if not hours >= 0:
        raise ValueError(f"hours={hours}: use a number from 0")
    return (yield from _list(source, Plan((names.JOBS,), Span.since(hours * 3600)), limit))
