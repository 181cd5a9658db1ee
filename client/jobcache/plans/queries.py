"""The calls that read, as plans: what is asked of the server, and how the reply reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from jobcache import keys as names
from jobcache.codec import ParsedJob
from jobcache.errors import CacheNotReady
from jobcache.ids import JobId, decode_name, is_name
from jobcache.index import filter_indexes
from jobcache.models import Freshness, JobMetadata, JobPage, JobStatus
from jobcache.plans.cursor import Cursor
from jobcache.plans.header import Header
from jobcache.plans.listing import (
    ATTEMPTS,
    CHUNK,
    NEVER,
    Fields,
    Found,
    Place,
    Since,
    ask_for_jobs,
    learn,
    list_jobs,
    note,
    read_page,
    rebuilt,
    resolve,
    split_jobs,
)
from jobcache.plans.plan import Ask, Pause, Plan, Run
from jobcache.plans.scripts import read_jobs_script, read_script
from jobcache.plans.source import Answer, Source, build
from jobcache.plans.stamp import Stamp

MOST_RUNNING = 1000
"""Most running jobs of which the step that finds them tells the revision: some milliseconds of the server's time."""
MOST_RUNNING_READ = 100
"""Most of them that are read whole in that step."""


def read_status(status: JobStatus | str | None) -> JobStatus | None:
    """The status a caller means; empty text is none.

    Raises:
        ValueError: it is none of the statuses.
    """
    if not status:
        return None
    try:
        return JobStatus(status)
    except ValueError:
        known = ", ".join(one.value for one in JobStatus)
        raise ValueError(f"status={status!r}: use one of {known}") from None


def read_filters(
    project: str | None, group: str | None, status: JobStatus | str | None
) -> tuple[str | None, str | None, JobStatus | None]:
    """The filters a caller means. Empty text is no filter, as an HTML form sends it.

    Raises:
        ValueError: the status is none of the statuses.
    """
    return project or None, group or None, read_status(status)


def check_limit(limit: int | None) -> int | None:
    """The limit a caller means; None is all.

    Raises:
        ValueError: it is negative.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit={limit}: use None for all, or a number from 0")
    return limit


def list_all_jobs(
    source: Source,
    project: str | None,
    group: str | None,
    status: JobStatus | str | None,
    limit: int | None,
) -> Plan[Answer[list[JobMetadata]]]:
    """Jobs that match the filters, newest start first."""
    check_limit(limit)
    project, group, wanted = read_filters(project, group, status)
    if not _can_match(project, group):
        return (yield from _nothing(source))
    return (yield from list_jobs(source, filter_indexes(project, group, wanted), limit))


def page(
    source: Source,
    project: str | None,
    group: str | None,
    status: JobStatus | str | None,
    limit: int,
    cursor: str | None,
) -> Plan[Answer[JobPage]]:
    """One page of what the filters match."""
    if not 1 <= limit <= CHUNK:
        raise ValueError(f"limit={limit}: a page holds 1 to {CHUNK} jobs")
    project, group, wanted = read_filters(project, group, status)
    after = Cursor.read(cursor) if cursor else None
    if not _can_match(project, group):
        nothing = yield from _nothing(source)
        return Answer(_build_empty_page, nothing.header)
    indexes = filter_indexes(project, group, wanted)
    rows = yield from read_page(
        source, indexes, limit=limit, signature=(*indexes, limit, cursor, "page"), after=after
    )
    return Answer(partial(_build_page, rows.found, rows.jobs), rows.header, rows.jobs)


def _build_empty_page(stamp: Stamp) -> JobPage:
    return JobPage(jobs=[], total=0, cursor=None, freshness=stamp.freshness)


def _build_page(found: Found, jobs: Sequence[ParsedJob], stamp: Stamp) -> JobPage:
    return JobPage.model_construct(
        jobs=build(jobs, stamp),
        total=found.total,
        cursor=str(found.last) if found.last else None,
        freshness=stamp.freshness,
    )


def get_job(
    source: Source, project: str, group: str, name: str, run_id: str
) -> Plan[Answer[JobMetadata | None]]:
    """One run, or None."""
    job = JobId.of(project, group, name, run_id)
    if job is None:
        nothing = yield from _nothing(source)
        return Answer(_build_none, nothing.header)
    path, memo = job.path, source.memo
    key = source.keys.full(names.job_key(path))
    known = memo.known_revision(path)
    while True:
        reply = yield Run(read_jobs_script("job"), (source.keys.meta, key), (known,))
        header = Header(reply[0]).require_ready(source.where)
        if not reply[1]:
            return Answer(_build_none, header)
        revision, *fields = reply[1]
        parsed = (
            learn(memo, header.epoch, Place(path, revision), fields[0])
            if fields
            else memo.get(path, header.epoch, revision)
        )
        if parsed is not None:
            return Answer(partial(_build_job, parsed), header, (parsed,))
        if fields:
            return Answer(_build_none, header)
        known = b""  # it was dropped meanwhile


def _build_job(job: ParsedJob, stamp: Stamp) -> JobMetadata:
    return job.build(stamp.vantage)


def _build_none(_: Stamp) -> None:
    return None


def get_job_runs(
    source: Source, project: str, group: str, name: str
) -> Plan[Answer[list[JobMetadata]]]:
    """Every run of one job name, newest start first."""
    if not all(map(is_name, (project, group, name))):
        return (yield from _nothing(source))
    index = names.runs_index(project, group, name)
    prefix = names.runs_prefix(project, group, name)
    return (yield from list_jobs(source, [index], None, member_prefix=prefix))


def get_recent_jobs(
    source: Source, hours: float, limit: int | None
) -> Plan[Answer[list[JobMetadata]]]:
    """Jobs that started within some hours before the last completed scan, newest first."""
    check_limit(limit)
    if not hours >= 0:
        raise ValueError(f"hours={hours}: use a number from 0")
    return (yield from list_jobs(source, [names.JOBS], limit, window=hours * 3600))


def get_running_jobs(source: Source) -> Plan[Answer[list[JobMetadata]]]:
    """Running jobs with a fresh heartbeat, newest start first."""
    keys, memo = source.keys, source.memo
    known = memo.known_answer(names.RUNNING)
    since = NEVER if known is None else Since(known.epoch, known.generation)
    for attempt in range(ATTEMPTS):
        reply = yield Run(
            read_jobs_script("running"),
            (keys.meta, keys.running),
            (
                *since.arguments(whole=known is not None),
                MOST_RUNNING,
                MOST_RUNNING_READ,
                keys.full(names.JOB_PREFIX),
            ),
        )
        header = Header(reply[0]).require_ready(source.where)
        if len(reply) == 1 and known is not None:
            places: list[Place] = known.found.places
            fields: list[Fields | None] = []
        else:
            paths, rows, told = reply[1], [*reply[2]], [header]
            for start in range(len(rows), len(paths), CHUNK):
                some = yield ask_for_jobs(keys, paths[start : start + CHUNK], since, renews=True)
                told.append(Header(some[0]))
                rows += some[1]
            if any(one.epoch != header.epoch for one in told):
                continue
            places, fields = split_jobs(paths, rows)
            if all(one.moment == header.moment for one in told):
                note(memo, names.RUNNING, header, Found(places, len(places), None))
        settle = attempt + 1 == ATTEMPTS
        jobs, _ = yield from resolve(source, header, places, fields, settle=settle)
        if jobs is not None:
            return Answer.of(_fresh(jobs, header), header)
    raise rebuilt(source)


def _fresh(jobs: Iterable[ParsedJob], header: Header) -> list[ParsedJob]:
    """Those that run with a fresh heartbeat, newest start first: what took several steps may have changed meanwhile."""
    vantage = header.vantage
    fresh = [job for job in jobs if job.is_running and job.is_fresh(vantage)]
    fresh.sort(key=_newest_first, reverse=True)
    return fresh


def freshness(source: Source) -> Plan[Freshness]:
    """How fresh the cache is; never raises ``CacheNotReady``."""
    reply = yield Run(read_script("freshness"), (source.keys.meta,))
    return Header(reply[0]).require_schema(source.where).freshness


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
        header = Header(reply[0])
        try:
            return header.require_ready(source.where).freshness
        except CacheNotReady as not_ready:
            if waited >= timeout:
                waiting = f" (waited {timeout:g} s)" if timeout else ""
                raise CacheNotReady(f"{not_ready}{waiting}") from None
        waited = yield Pause(min(0.1, max(0.0, timeout - waited)))


def _nothing(source: Source) -> Plan[Answer[list[JobMetadata]]]:
    """The answer for names that no directory can bear: none, if the cache is ready to say so."""
    reply = yield Run(read_script("freshness"), (source.keys.meta,))
    return Answer.of((), Header(reply[0]).require_ready(source.where))


def _can_match(project: str | None, group: str | None) -> bool:
    return all(name is None or is_name(name) for name in (project, group))


def _newest_first(job: ParsedJob) -> tuple[float, bytes]:
    return job.newest_first
