"""One listing of an index, or of the union of several, page by page."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from jobcache.models import JobMetadata
from jobcache.queries.answer import Answer
from jobcache.queries.cursor import Cursor
from jobcache.queries.fetch import (
    ATTEMPTS,
    CHUNK,
    NO_BASELINE,
    Baseline,
    Fields,
    JobRef,
    rebuilt,
    resolve,
    split_jobs,
)
from jobcache.queries.parsed_jobs import KnownAnswer, ParsedJobCache
from jobcache.queries.query import Query, Run
from jobcache.queries.source import Source
from jobcache.schema import keys as names
from jobcache.schema.header import Header
from jobcache.schema.job import ParsedJob
from jobcache.schema.scripts import read_jobs_script


class Found(NamedTuple):
    """What a listing found: good for as long as the generation lasts in which it did."""

    refs: list[JobRef]
    total: int
    """How many jobs there are in all pages."""
    last: Cursor | None
    """Where the next page begins; None when there is none."""

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return 300 + 250 * len(self.refs)


class Rows(NamedTuple):
    """A page: what was found, and the jobs themselves."""

    found: Found
    jobs: list[ParsedJob]
    header: Header
    remembered: bool
    """Whether this process still had all jobs whose fields did not travel."""


def read_page(
    source: Source,
    indexes: Sequence[bytes],
    *,
    limit: int,
    signature: Hashable = None,
    baseline: Baseline = NO_BASELINE,
    after: Cursor | None = None,
    window: float | None = None,
    member_prefix: bytes = b"",
) -> Query[Rows]:
    """One page of a listing.

    Args:
        source: where to read.
        indexes: whose union is listed.
        limit: most jobs of the page.
        signature: by which the answer is remembered; None if it is not.
        baseline: epoch and generation of the reader's last answer; fields come only of jobs written later.
        after: where the page before ended.
        window: seconds before the last completed scan within which a job must have started.
        member_prefix: what makes a member of the indexes the path of a job.
    """
    keys, parsed = source.keys, source.parsed
    known = None if signature is None else parsed.known_answer(signature)
    if known is not None:
        baseline = Baseline(known.epoch, known.generation)
    for attempt in range(ATTEMPTS):
        reply = yield Run(
            read_jobs_script("page"),
            (keys.meta, *(keys.full(index) for index in indexes)),
            (
                *baseline.arguments(whole=known is not None),
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
                note(parsed, signature, header, found)
        accept_mixed = attempt + 1 == ATTEMPTS
        jobs, remembered = yield from resolve(
            source, header, found.refs, fields, accept_mixed=accept_mixed
        )
        if jobs is not None:
            return Rows(found, jobs, header, remembered)
    raise rebuilt(source)


def note(parsed: ParsedJobCache, signature: Hashable, header: Header, found: Found) -> None:
    """Remember what a listing found."""
    parsed.note_answer(signature, KnownAnswer(header.epoch, header.generation, found), found.size)


def _split_page(
    reply: Sequence[Any], member_prefix: bytes, limit: int
) -> tuple[Found, list[Fields | None]]:
    """What a page's script replied: what it found, and the fields that came along."""
    refs, fields = split_jobs(
        [member_prefix + row[0] for row in reply[2]], [row[2] for row in reply[2]]
    )
    last = Cursor(reply[2][-1][1], reply[2][-1][0]) if limit and len(refs) == limit else None
    return Found(refs, reply[1], last), fields


def list_jobs(
    source: Source,
    indexes: Sequence[bytes],
    limit: int | None,
    *,
    window: float | None = None,
    member_prefix: bytes = b"",
) -> Query[Answer[list[JobMetadata]]]:
    """Page after page up to the limit; a job that moved between two pages stands once."""
    signature = (*indexes, limit, window)
    known = source.parsed.known_answer(signature)
    baseline = NO_BASELINE if known is None else Baseline(known.epoch, known.generation)
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
            baseline=baseline if rows.remembered else NO_BASELINE,
            after=rows.found.last,
            window=window,
            member_prefix=member_prefix,
        )
        for job in rows.jobs:
            jobs.setdefault(job.path, job)
    return Answer.of([*jobs.values()], rows.header)
