"""The calls that read, as plans: what is asked of the server, and how the reply reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from jobcache import keys as names
from jobcache.codec import JOB_FIELDS, Vantage, decode_job
from jobcache.cursor import Cursor
from jobcache.errors import CacheNotReady
from jobcache.header import Header
from jobcache.ids import JobId, decode_name, is_name
from jobcache.index import filter_indexes
from jobcache.keys import Keys
from jobcache.models import (
    DashboardStats,
    Freshness,
    JobCounts,
    JobMetadata,
    JobPage,
    JobStatus,
    ProjectSummary,
)
from jobcache.plan import Ask, AskAll, Pause, Plan, Run
from jobcache.scripts import read_script

CHUNK = 200
"""Most jobs that one step reads; longer answers take several steps."""

T = TypeVar("T")
_FIELDS = tuple(JOB_FIELDS)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a plan reads: the keys of one namespace, and how to name the place to a person."""

    keys: Keys
    where: str


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a call returns, and how fresh it is."""

    value: T
    freshness: Freshness


def read_status(status: JobStatus | str | None) -> JobStatus | None:
    """The status a caller means.

    Raises:
        ValueError: it is none of the statuses.
    """
    if status is None:
        return None
    try:
        return JobStatus(status)
    except ValueError:
        known = ", ".join(one.value for one in JobStatus)
        raise ValueError(f"status={status!r}: use one of {known}") from None


def check_limit(limit: int | None) -> int | None:
    """The limit a caller means; None is all.

    Raises:
        ValueError: it is negative.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit={limit}: use None for all, or a number from 0")
    return limit


@dataclass(frozen=True, slots=True)
class _Rows:
    jobs: list[JobMetadata]
    total: int
    last: Cursor | None
    header: Header


def _page(
    source: Source,
    indexes: Sequence[bytes],
    *,
    limit: int,
    after: Cursor | None = None,
    window: float | None = None,
    member_prefix: bytes = b"",
) -> Plan[_Rows]:
    keys = source.keys
    reply = yield Run(
        read_script("page"),
        (keys.meta, *(keys.full(index) for index in indexes)),
        (
            limit,
            after.score if after else b"",
            after.member if after else b"",
            b"" if window is None else repr(float(window)).encode(),
            member_prefix,
            keys.full(names.JOB_PREFIX),
            *_FIELDS,
        ),
    )
    header = Header.parse(reply[0]).require_ready(source.where)
    vantage = header.vantage
    jobs = []
    last = None
    for *values, score, member in reply[2]:
        last = Cursor(score, member)
        job = decode_job(JobId.from_path(member_prefix + member), values, vantage)
        if job is not None:
            jobs.append(job)
    return _Rows(jobs, reply[1], last if len(reply[2]) == limit else None, header)


def _listing(
    source: Source,
    indexes: Sequence[bytes],
    limit: int | None,
    *,
    window: float | None = None,
    member_prefix: bytes = b"",
) -> Plan[Answer[list[JobMetadata]]]:
    """Page after page up to the limit; a job that moved between two pages stands once."""
    jobs: dict[JobId, JobMetadata] = {}
    after = None
    while True:
        wanted = CHUNK if limit is None else min(CHUNK, limit - len(jobs))
        rows = yield from _page(
            source, indexes, limit=wanted, after=after, window=window, member_prefix=member_prefix
        )
        for job in rows.jobs:
            jobs.setdefault(job.id, job)
        after = rows.last
        if after is None or (limit is not None and len(jobs) >= limit):
            return Answer(list(jobs.values()), rows.header.freshness)


def list_all_jobs(
    source: Source,
    project: str | None,
    group: str | None,
    status: JobStatus | str | None,
    limit: int | None,
) -> Plan[Answer[list[JobMetadata]]]:
    """Jobs that match the filters, newest start first."""
    limit, wanted = check_limit(limit), read_status(status)
    if not _can_match(project, group):
        return (yield from _nothing(source))
    return (yield from _listing(source, filter_indexes(project, group, wanted), limit))


def page(
    source: Source,
    project: str | None,
    group: str | None,
    status: JobStatus | str | None,
    limit: int,
    cursor: str | None,
) -> Plan[JobPage]:
    """One page of what the filters match."""
    if not 1 <= limit <= CHUNK:
        raise ValueError(f"limit={limit}: a page holds 1 to {CHUNK} jobs")
    wanted = read_status(status)
    after = None if cursor is None else Cursor.read(cursor)
    if not _can_match(project, group):
        nothing = yield from _nothing(source)
        return JobPage(jobs=[], total=0, cursor=None, freshness=nothing.freshness)
    rows = yield from _page(
        source, filter_indexes(project, group, wanted), limit=limit, after=after
    )
    return JobPage.model_construct(
        jobs=rows.jobs,
        total=rows.total,
        cursor=str(rows.last) if rows.last else None,
        freshness=rows.header.freshness,
    )


def get_job(
    source: Source, project: str, group: str, name: str, run_id: str
) -> Plan[Answer[JobMetadata | None]]:
    """One run, or None."""
    job = JobId.of(project, group, name, run_id)
    if job is None:
        nothing = yield from _nothing(source)
        return Answer(None, nothing.freshness)
    reply = yield Run(read_script("job"), (source.keys.meta, source.keys.job(job)), _FIELDS)
    header = Header.parse(reply[0]).require_ready(source.where)
    return Answer(decode_job(job, reply[1], header.vantage), header.freshness)


def get_job_runs(
    source: Source, project: str, group: str, name: str
) -> Plan[Answer[list[JobMetadata]]]:
    """Every run of one job name, newest start first."""
    if not all(map(is_name, (project, group, name))):
        return (yield from _nothing(source))
    index = names.runs_index(project, group, name)
    prefix = names.runs_prefix(project, group, name)
    return (yield from _listing(source, [index], None, member_prefix=prefix))


def get_recent_jobs(
    source: Source, hours: float, limit: int | None
) -> Plan[Answer[list[JobMetadata]]]:
    """Jobs that started within some hours before the last completed scan, newest first."""
    check_limit(limit)
    if not hours >= 0:
        raise ValueError(f"hours={hours}: use a number from 0")
    return (yield from _listing(source, [names.JOBS], limit, window=hours * 3600))


def get_running_jobs(source: Source) -> Plan[Answer[list[JobMetadata]]]:
    """Running jobs with a fresh heartbeat, newest start first."""
    keys = source.keys
    reply = yield Run(
        read_script("running"),
        (keys.meta, keys.running),
        (CHUNK, keys.full(names.JOB_PREFIX), *_FIELDS),
    )
    header = Header.parse(reply[0]).require_ready(source.where)
    ids = [JobId.from_path(path) for path in reply[1]]
    jobs: list[JobMetadata] = []
    if len(reply[2]) == len(ids):
        jobs += _decode(ids, reply[2], header.vantage)
    else:
        for start in range(0, len(ids), CHUNK):
            some = ids[start : start + CHUNK]
            rows = yield AskAll(tuple((b"HMGET", keys.job(job), *_FIELDS) for job in some))
            jobs += _decode(some, rows, header.vantage)
        jobs = [job for job in jobs if job.status is JobStatus.RUNNING and not job.stale]
    jobs.sort(key=_newest_first, reverse=True)
    return Answer(jobs, header.freshness)


def list_projects(source: Source) -> Plan[Answer[list[ProjectSummary]]]:
    """Every project, by name."""
    summary = yield from _summary(source)
    return Answer(summary.projects, summary.header.freshness)


def get_dashboard_stats(source: Source) -> Plan[Answer[DashboardStats]]:
    """Totals of everything and of every project."""
    summary = yield from _summary(source)
    stats = DashboardStats(**summary.counts.model_dump(), projects=summary.projects)
    return Answer(stats, summary.header.freshness)


def counts(source: Source) -> Plan[Answer[JobCounts]]:
    """Totals by status."""
    summary = yield from _summary(source)
    return Answer(summary.counts, summary.header.freshness)


def freshness(source: Source) -> Plan[Freshness]:
    """How fresh the cache is; never raises ``CacheNotReady``."""
    reply = yield Run(read_script("freshness"), (source.keys.meta,))
    return Header.parse(reply[0]).require_schema(source.where).freshness


def meta(source: Source) -> Plan[dict[str, str]]:
    """The fields of ``meta`` as text."""
    reply = yield Ask((b"HGETALL", source.keys.meta))
    return {
        decode_name(field): decode_name(value)
        for field, value in zip(reply[::2], reply[1::2], strict=True)
    }


def wait_until_ready(source: Source, timeout: float) -> Plan[Freshness]:
    """Return once a refresher has completed a scan."""
    waited = 0.0
    while True:
        reply = yield Run(read_script("freshness"), (source.keys.meta,))
        header = Header.parse(reply[0])
        try:
            return header.require_ready(source.where).freshness
        except CacheNotReady as not_ready:
            if waited >= timeout:
                waiting = f" (waited {timeout:g} s)" if timeout else ""
                raise CacheNotReady(f"{not_ready}{waiting}") from None
        waited = yield Pause(min(0.1, max(0.0, timeout - waited)))


@dataclass(frozen=True, slots=True)
class _Summary:
    counts: JobCounts
    projects: list[ProjectSummary]
    header: Header


def _summary(source: Source) -> Plan[_Summary]:
    keys = source.keys
    statuses = list(JobStatus)
    reply = yield Run(
        read_script("summary"),
        (
            keys.meta,
            keys.jobs,
            keys.running,
            keys.projects,
            *(keys.full(names.status_index(status)) for status in statuses),
        ),
        (
            keys.full(names.PROJECT_PREFIX),
            keys.full(names.RUNNING_PREFIX),
            keys.full(names.GROUPS_PREFIX),
            names.STATUS_PART,
            *(status.value for status in statuses),
        ),
    )
    header = Header.parse(reply[0]).require_ready(source.where)
    projects = [
        ProjectSummary(
            name=decode_name(name),
            groups=sorted(map(decode_name, groups)),
            **_by_status(totals),
        )
        for name, totals, groups in reply[3]
    ]
    projects.sort(key=lambda project: project.name)
    totals = JobCounts(**_by_status(reply[2]), active_chips=int(reply[1] or 0))
    return _Summary(totals, projects, header)


def _by_status(totals: Sequence[int]) -> dict[str, int]:
    total, fresh, *by_status = totals
    named = {status.value: count for status, count in zip(JobStatus, by_status, strict=True)}
    stale = named[JobStatus.RUNNING.value] - fresh
    return {**named, "total_jobs": total, JobStatus.RUNNING.value: fresh, "stale": stale}


def _nothing(source: Source) -> Plan[Answer[list[JobMetadata]]]:
    """The answer for names that no directory can bear: none, if the cache is ready to say so."""
    reply = yield Run(read_script("freshness"), (source.keys.meta,))
    return Answer([], Header.parse(reply[0]).require_ready(source.where).freshness)


def _can_match(project: str | None, group: str | None) -> bool:
    return all(name is None or is_name(name) for name in (project, group))


def _decode(
    ids: Iterable[JobId], rows: Iterable[Sequence[Any]], vantage: Vantage
) -> list[JobMetadata]:
    decoded = (decode_job(job, row, vantage) for job, row in zip(ids, rows, strict=True))
    return [job for job in decoded if job is not None]


def _newest_first(job: JobMetadata) -> tuple[float, bytes]:
    started = job.started_at.timestamp() if job.started_at else float("-inf")
    return started, job.id.path
