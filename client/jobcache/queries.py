"""The calls that read, as plans: what is asked of the server, and how the reply reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from jobcache import keys as names
from jobcache.codec import JOB_FIELDS, ParsedJob, parse_job
from jobcache.cursor import Cursor
from jobcache.errors import CacheNotReady
from jobcache.header import Header
from jobcache.ids import JobId, decode_name, is_name
from jobcache.index import filter_indexes
from jobcache.keys import Keys
from jobcache.memo import Memo
from jobcache.models import (
    Freshness,
    JobMetadata,
    JobPage,
    JobStatus,
)
from jobcache.plan import Ask, Command, Pause, Plan, Run
from jobcache.scripts import read_script
from jobcache.stamp import Stamp

CHUNK = 200
"""Most jobs that one step reads with their fields; longer answers take several steps."""

MOST_AT_ONCE = 1000
"""Most running jobs that are read in the step that finds them; of most of them only the revision travels."""

ANSWER_OVERHEAD = 2000
"""Bytes of memory that an answer takes beside its jobs, about."""

ATTEMPTS = 3
"""How often a query is asked again because jobs were written between two steps of it."""

T = TypeVar("T")
_FIELDS = tuple(JOB_FIELDS)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a plan reads: the keys of one namespace, what is known of them, and how to name the place to a person."""

    keys: Keys
    where: str
    memo: Memo


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a call returns, and how fresh it is."""

    build: Callable[[Stamp], T]
    """Makes the value under a stamp; each time one that shares nothing that can be changed."""
    header: Stamp
    jobs: Sequence[ParsedJob] = ()
    """What ``build`` holds on to."""

    @property
    def value(self) -> T:
        """What the call returns."""
        return self.build(self.header)

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return ANSWER_OVERHEAD + sum(job.size for job in self.jobs)

    @classmethod
    def of(cls, jobs: Sequence[ParsedJob], header: Stamp) -> Answer[list[JobMetadata]]:
        """A listing of jobs."""

        def build(stamp: Stamp) -> list[JobMetadata]:
            vantage = stamp.vantage
            return [job.build(vantage) for job in jobs]

        return Answer(build, header, jobs)


Query: TypeAlias = Callable[..., Plan[Answer[T]]]
"""A call that reads: takes the source and the caller's arguments."""


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
    jobs: list[ParsedJob]
    total: int
    last: Cursor | None
    header: Header


def _page(
    source: Source,
    indexes: Sequence[bytes],
    *,
    limit: int,
    since: int,
    after: Cursor | None = None,
    window: float | None = None,
    member_prefix: bytes = b"",
) -> Plan[_Rows]:
    keys = source.keys
    for attempt in range(ATTEMPTS):
        reply = yield Run(
            read_script("page"),
            (keys.meta, *(keys.full(index) for index in indexes)),
            (
                limit,
                after.score if after else b"",
                after.member if after else b"",
                b"" if window is None else repr(float(window)).encode(),
                since,
                member_prefix,
                keys.full(names.JOB_PREFIX),
                *_FIELDS,
            ),
            renews=after is not None and attempt == 0,
        )
        header = Header.parse(reply[0]).require_ready(source.where)
        paths = [member_prefix + member for member, _, _ in reply[2]]
        read = [job for _, _, job in reply[2]]
        jobs = yield from _resolve(source, header, paths, read, settle=attempt + 1 == ATTEMPTS)
        if jobs is not None:
            break
    last = Cursor(reply[2][-1][1], reply[2][-1][0]) if limit and len(paths) == limit else None
    return _Rows(jobs or [], reply[1], last, header)


def _resolve(
    source: Source,
    header: Header,
    paths: Sequence[bytes],
    read: Sequence[Sequence[Any]],
    *,
    settle: bool = False,
) -> Plan[list[ParsedJob] | None]:
    """The jobs at the revisions that were named: out of what was read, or known, or is fetched now.

    None when one was written in between, and the answer would no longer be of one moment; unless that has to do.
    """
    memo = source.memo
    memo.enter(header.epoch)
    jobs: list[ParsedJob | None] = []
    unknown = []
    for path, row in zip(paths, read, strict=True):
        job = None
        if len(row) == 2:
            job = _learn(memo, path, row[0], row[1])
        elif row:
            job = memo.get(path, row[0])
            if job is None:
                unknown.append(len(jobs))
        jobs.append(job)
    for start in range(0, len(unknown), CHUNK):
        places = unknown[start : start + CHUNK]
        wanted = [paths[place] for place in places]
        fetched = yield _read_jobs(source.keys, -1, wanted, renews=start > 0)
        for place, row in zip(places, fetched[1], strict=True):
            if not settle and (not row or row[0] != read[place][0]):
                return None
            if row:
                jobs[place] = _learn(memo, paths[place], row[0], row[1])
    return [job for job in jobs if job is not None]


def _learn(
    memo: Memo, path: bytes, revision: bytes, values: Sequence[bytes | None]
) -> ParsedJob | None:
    job = parse_job(JobId.from_path(path), values)
    if job is not None:
        memo.put(path, revision, job)
    return job


def _read_jobs(keys: Keys, since: int, paths: Sequence[bytes], *, renews: bool = False) -> Run:
    prefix = keys.full(names.JOB_PREFIX)
    args: Command = (since, prefix, len(_FIELDS), *_FIELDS, *paths)
    return Run(read_script("jobs"), (keys.meta,), args, renews)


def _listing(
    source: Source,
    indexes: Sequence[bytes],
    limit: int | None,
    *,
    window: float | None = None,
    member_prefix: bytes = b"",
) -> Plan[Answer[list[JobMetadata]]]:
    """Page after page up to the limit; a job that moved between two pages stands once."""
    signature = (*indexes, limit, window)
    since = source.memo.last_answered(signature)
    rows = yield from _page(
        source,
        indexes,
        limit=CHUNK if limit is None else min(CHUNK, limit),
        since=since,
        window=window,
        member_prefix=member_prefix,
    )
    first = rows.header
    jobs = rows.jobs
    if rows.last is not None and (limit is None or len(jobs) < limit):
        by_path = {job.path: job for job in jobs}
        while rows.last is not None and (limit is None or len(by_path) < limit):
            rows = yield from _page(
                source,
                indexes,
                limit=CHUNK if limit is None else min(CHUNK, limit - len(by_path)),
                since=since,
                after=rows.last,
                window=window,
                member_prefix=member_prefix,
            )
            for job in rows.jobs:
                by_path.setdefault(job.path, job)
        jobs = list(by_path.values())
    source.memo.note_answer(signature, first.generation)
    return Answer.of(jobs, rows.header)


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
) -> Plan[Answer[JobPage]]:
    """One page of what the filters match."""
    if not 1 <= limit <= CHUNK:
        raise ValueError(f"limit={limit}: a page holds 1 to {CHUNK} jobs")
    wanted = read_status(status)
    after = None if cursor is None else Cursor.read(cursor)
    if not _can_match(project, group):
        nothing = yield from _nothing(source)
        return Answer(_build_empty_page, nothing.header)
    indexes = filter_indexes(project, group, wanted)
    signature = (*indexes, limit, cursor, "page")
    since = source.memo.last_answered(signature)
    rows = yield from _page(source, indexes, limit=limit, since=since, after=after)
    source.memo.note_answer(signature, rows.header.generation)
    return Answer(partial(_build_page, rows), rows.header, rows.jobs)


def _build_empty_page(stamp: Stamp) -> JobPage:
    return JobPage(jobs=[], total=0, cursor=None, freshness=stamp.freshness)


def _build_page(rows: _Rows, stamp: Stamp) -> JobPage:
    vantage = stamp.vantage
    return JobPage.model_construct(
        jobs=[job.build(vantage) for job in rows.jobs],
        total=rows.total,
        cursor=str(rows.last) if rows.last else None,
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
    known = memo.known_revision(path)
    while True:
        reply = yield Run(
            read_script("job"), (source.keys.meta, source.keys.job(job)), (known, *_FIELDS)
        )
        header = Header.parse(reply[0]).require_ready(source.where)
        memo.enter(header.epoch)
        if not reply[1]:
            return Answer(_build_none, header)
        revision, *fields = reply[1]
        parsed = _learn(memo, path, revision, fields[0]) if fields else memo.get(path, revision)
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
    keys, memo = source.keys, source.memo
    since = memo.last_answered(names.RUNNING)
    for attempt in range(ATTEMPTS):
        settle = attempt + 1 == ATTEMPTS
        reply = yield Run(
            read_script("running"),
            (keys.meta, keys.running),
            (MOST_AT_ONCE, since, keys.full(names.JOB_PREFIX), *_FIELDS),
        )
        header = Header.parse(reply[0]).require_ready(source.where)
        paths, read = reply[1], reply[2]
        for start in range(len(read), len(paths), CHUNK):
            some = yield _read_jobs(keys, since, paths[start : start + CHUNK], renews=True)
            read += some[1]
        jobs = yield from _resolve(source, header, paths, read, settle=settle)
        if jobs is not None:
            break
    memo.note_answer(names.RUNNING, header.generation)
    vantage = header.vantage
    # What took several steps may have changed on the way.
    fresh = [job for job in jobs or () if job.is_running and job.is_fresh(vantage)]
    fresh.sort(key=_newest_first, reverse=True)
    return Answer.of(fresh, header)


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


def _nothing(source: Source) -> Plan[Answer[list[JobMetadata]]]:
    """The answer for names that no directory can bear: none, if the cache is ready to say so."""
    reply = yield Run(read_script("freshness"), (source.keys.meta,))
    return Answer.of((), Header.parse(reply[0]).require_ready(source.where))


def _can_match(project: str | None, group: str | None) -> bool:
    return all(name is None or is_name(name) for name in (project, group))


def _newest_first(job: ParsedJob) -> tuple[float, bytes]:
    return job.newest_first
