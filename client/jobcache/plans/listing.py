"""Listings in pages, and the jobs that an answer names: what is known of them stays here, what is not is fetched."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, TypeAlias

from jobcache import keys as names
from jobcache.codec import ParsedJob, parse_job
from jobcache.errors import CacheUnavailable
from jobcache.ids import JobId
from jobcache.keys import Keys
from jobcache.models import JobMetadata
from jobcache.plans.cursor import Cursor
from jobcache.plans.header import Header
from jobcache.plans.memo import KnownAnswer, Memo
from jobcache.plans.plan import Plan, Run
from jobcache.plans.scripts import read_jobs_script
from jobcache.plans.source import Answer, Source

CHUNK = 200
"""Most jobs that one step reads with their fields; longer answers take several steps."""

ATTEMPTS = 3
"""How often a query is asked again because jobs were written between two steps of it."""


class Place(NamedTuple):
    """Where a job stands in an answer."""

    path: bytes
    revision: bytes
    """Empty when an index named a job that was not there."""


class Found(NamedTuple):
    """What a listing found: good for as long as the generation lasts in which it did."""

    places: list[Place]
    total: int
    """How many jobs there are in all pages."""
    last: Cursor | None
    """Where the next page begins; None when there is none."""

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return 300 + 250 * len(self.places)


class Rows(NamedTuple):
    """A page: what was found, and the jobs themselves."""

    found: Found
    jobs: list[ParsedJob]
    header: Header
    remembered: bool
    """Whether this process still had all jobs whose fields did not travel."""


class Since(NamedTuple):
    """Since when a reader may know jobs: it need not be sent again what is older."""

    epoch: bytes
    generation: int

    def arguments(self, *, whole: bool) -> tuple[bytes | int, ...]:
        """For a script; ``whole`` if the reader still knows the answer and not only some of its jobs."""
        return (self.epoch, self.generation, b"1" if whole else b"")


NEVER = Since(b"", 0)

Fields: TypeAlias = Sequence[bytes | None]
"""Values of a job's hash, in the order of ``JOB_FIELDS``."""


def read_page(
    source: Source,
    indexes: Sequence[bytes],
    *,
    limit: int,
    signature: Hashable = None,
    since: Since = NEVER,
    after: Cursor | None = None,
    window: float | None = None,
    member_prefix: bytes = b"",
) -> Plan[Rows]:
    """One page of a listing.

    Args:
        source: where to read.
        indexes: whose union is listed.
        limit: most jobs of the page.
        signature: by which the answer is remembered; None if it is not.
        since: since when jobs may be known, where the answer is not.
        after: where the page before ended.
        window: seconds before the last completed scan within which a job must have started.
        member_prefix: what makes a member of the indexes the path of a job.
    """
    keys, memo = source.keys, source.memo
    known = None if signature is None else memo.known_answer(signature)
    if known is not None:
        since = Since(known.epoch, known.generation)
    for attempt in range(ATTEMPTS):
        reply = yield Run(
            read_jobs_script("page"),
            (keys.meta, *(keys.full(index) for index in indexes)),
            (
                *since.arguments(whole=known is not None),
                limit,
                after.score if after else b"",
                after.member if after else b"",
                b"" if window is None else repr(float(window)).encode(),
                member_prefix,
                keys.full(names.JOB_PREFIX),
            ),
            renews=after is not None and attempt == 0,
        )
        header = Header(reply[0]).require_ready(source.where)
        if len(reply) == 1 and known is not None:
            found: Found = known.found
            fields: Sequence[Fields | None] = ()
        else:
            found, fields = _split_page(reply, member_prefix, limit)
            if signature is not None:
                note(memo, signature, header, found)
        settle = attempt + 1 == ATTEMPTS
        jobs, remembered = yield from resolve(source, header, found.places, fields, settle=settle)
        if jobs is not None:
            return Rows(found, jobs, header, remembered)
    raise rebuilt(source)


def rebuilt(source: Source) -> CacheUnavailable:
    """What to raise when every attempt met a cache that was built anew between its steps."""
    return CacheUnavailable(f"{source.where} is built anew again and again")


def note(memo: Memo, signature: Hashable, header: Header, found: Found) -> None:
    """Remember what a listing found."""
    memo.note_answer(signature, KnownAnswer(header.epoch, header.generation, found), found.size)


def _split_page(
    reply: Sequence[Any], member_prefix: bytes, limit: int
) -> tuple[Found, list[Fields | None]]:
    """What a page's script replied: what it found, and the fields that came along."""
    places, fields = split_jobs(
        [member_prefix + row[0] for row in reply[2]], [row[2] for row in reply[2]]
    )
    last = Cursor(reply[2][-1][1], reply[2][-1][0]) if limit and len(places) == limit else None
    return Found(places, reply[1], last), fields


def split_jobs(
    paths: Sequence[bytes], rows: Sequence[Sequence[Any]]
) -> tuple[list[Place], list[Fields | None]]:
    """Revision and fields of each job, out of what the scripts' ``read_job`` replied."""
    places = [Place(path, row[0] if row else b"") for path, row in zip(paths, rows, strict=True)]
    return places, [row[1] if len(row) == 2 else None for row in rows]


def resolve(
    source: Source,
    header: Header,
    places: Sequence[Place],
    fields: Sequence[Fields | None],
    *,
    settle: bool,
) -> Plan[tuple[list[ParsedJob] | None, bool]]:
    """The jobs at the revisions that were named: out of what was read, or known, or is fetched now.

    None when one was written in between, and the answer would no longer be of one moment, unless that has to do; or
    when the cache was built anew, which never does. And whether nothing had to be fetched.
    """
    memo, epoch = source.memo, header.epoch
    jobs: list[ParsedJob | None] = []
    unknown = []
    for place, values in zip_longest(places, fields):
        if values is not None:
            job = learn(memo, epoch, place, values)
        else:
            job = memo.get(place.path, epoch, place.revision)
            if job is None and place.revision:
                unknown.append(len(jobs))
        jobs.append(job)
    for start in range(0, len(unknown), CHUNK):
        numbers = unknown[start : start + CHUNK]
        paths = [places[number].path for number in numbers]
        reply = yield ask_for_jobs(source.keys, paths, NEVER, renews=start > 0)
        if Header(reply[0]).epoch != epoch:
            return None, False
        fetched, values_of = split_jobs(paths, reply[1])
        for number, place, values in zip(numbers, fetched, values_of, strict=True):
            if not settle and place.revision != places[number].revision:
                return None, False
            if values is not None:
                jobs[number] = learn(memo, epoch, place, values)
    return [job for job in jobs if job is not None], not unknown


def learn(memo: Memo, epoch: bytes, place: Place, values: Fields) -> ParsedJob | None:
    """Parse a job, and remember it; None when its hash is gone."""
    job = parse_job(JobId.from_path(place.path), values)
    if job is not None:
        memo.put(place.path, epoch, place.revision, job)
    return job


def ask_for_jobs(keys: Keys, paths: Sequence[bytes], since: Since, *, renews: bool) -> Run:
    """Ask for some jobs; fields come along of those that were written later."""
    args: tuple[bytes | str | int, ...] = (*since, keys.full(names.JOB_PREFIX), *paths)
    return Run(read_jobs_script("jobs"), (keys.meta,), args, renews)


def list_jobs(
    source: Source,
    indexes: Sequence[bytes],
    limit: int | None,
    *,
    window: float | None = None,
    member_prefix: bytes = b"",
) -> Plan[Answer[list[JobMetadata]]]:
    """Page after page up to the limit; a job that moved between two pages stands once."""
    signature = (*indexes, limit, window)
    known = source.memo.known_answer(signature)
    since = NEVER if known is None else Since(known.epoch, known.generation)
    rows = yield from read_page(
        source,
        indexes,
        limit=CHUNK if limit is None else min(CHUNK, limit),
        signature=signature,
        window=window,
        member_prefix=member_prefix,
    )
    # By path, since a job that is written meanwhile may move from one page to the next.
    jobs = {job.path: job for job in rows.jobs}
    while rows.found.last is not None and (limit is None or len(jobs) < limit):
        rows = yield from read_page(
            source,
            indexes,
            limit=CHUNK if limit is None else min(CHUNK, limit - len(jobs)),
            since=since if rows.remembered else NEVER,
            after=rows.found.last,
            window=window,
            member_prefix=member_prefix,
        )
        for job in rows.jobs:
            jobs.setdefault(job.path, job)
    return Answer.of([*jobs.values()], rows.header)
