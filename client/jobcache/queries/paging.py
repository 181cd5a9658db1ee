"""One listing of the union of some indexes, step by step."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from enum import Enum
from typing import Any, NamedTuple

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
from jobcache.queries.plan import Plan
from jobcache.queries.query import Query, Run
from jobcache.queries.source import Source
from jobcache.schema import keys as names
from jobcache.schema.header import Header
from jobcache.schema.job import ParsedJob
from jobcache.schema.scripts import listing_script

MOST_REMEMBERED = 1000
"""Jobs of the longest answer that is remembered as a whole."""
MEMBERS_PER_STEP = 2500
"""Most members of indexes that one step tests."""


class Follows(Enum):
    """What comes behind the last member that a step passed."""

    MORE = b"more"
    NONE = b"none"
    UNKNOWN = b"unknown"


class Found(NamedTuple):
    """What a listing found: good for as long as the generation lasts in which it did."""

    refs: Sequence[JobRef]
    total: int | None
    """How many jobs there are in all pages; None if that is not known."""
    last: Cursor | None = None
    """The last member that was passed: the next page begins behind it. None if there was none."""
    follows: Follows = Follows.NONE

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return 300 + 250 * len(self.refs)


class Rows(NamedTuple):
    """What was found, and the jobs themselves."""

    found: Found
    jobs: Sequence[ParsedJob]
    header: Header
    remembered: bool = True
    """Whether this process still had all jobs whose fields did not travel."""


def read_list(
    source: Source,
    plan: Plan,
    limit: int | None,
    *,
    after: Cursor | None = None,
    to_next: bool = False,
) -> Query[Rows]:
    """Step after step up to the limit; a job that moved between two steps stands once.

    Args:
        source: where to read.
        plan: which indexes are read, and what is tested of their members.
        limit: most jobs; None for all.
        after: where the page before ended.
        to_next: whether to go on until it is known whether another job follows.
    """
    signature = (plan, limit, after, to_next)
    known = source.parsed.known_answer(signature)
    baseline = NO_BASELINE if known is None else Baseline(known.epoch, known.generation)
    rows = yield from _read_step(source, plan, _step_size(limit, 0), baseline, after, known=known)
    if known is not None and rows.found is known.found:
        return rows
    first, found, one_moment = rows.header, rows.found, True
    # By path, since a job that is written meanwhile may move from one step to the next.
    jobs = {job.path: job for job in rows.jobs}
    refs = [*found.refs]
    while found.follows is not Follows.NONE and (
        limit is None or len(jobs) < limit or (to_next and found.follows is Follows.UNKNOWN)
    ):
        after_step = found.last or after
        rows = yield from _read_step(
            source,
            plan,
            _step_size(limit, len(jobs)),
            baseline if rows.remembered else NO_BASELINE,
            after_step,
            renews=True,
        )
        found = rows.found._replace(last=rows.found.last or after_step)
        one_moment = one_moment and rows.header.moment == first.moment
        refs += found.refs
        for job in rows.jobs:
            jobs.setdefault(job.path, job)
    is_all = after is None and found.follows is Follows.NONE and one_moment
    if found.total is None and is_all:
        found = found._replace(total=len(jobs))
    whole = found._replace(refs=refs) if one_moment and len(refs) <= MOST_REMEMBERED else None
    _note(source.parsed, signature, plan, first, whole)
    return Rows(found, [*jobs.values()], rows.header)


def _step_size(limit: int | None, read: int) -> int:
    return CHUNK if limit is None else min(CHUNK, limit - read)


def _read_step(
    source: Source,
    plan: Plan,
    limit: int,
    baseline: Baseline,
    after: Cursor | None,
    *,
    known: KnownAnswer | None = None,
    renews: bool = False,
) -> Query[Rows]:
    """One step of a listing.

    Args:
        source: where to read.
        plan: which indexes are read, and what is tested of their members.
        limit: most jobs.
        baseline: epoch and generation of the reader's last answer; fields come only of jobs written later.
        after: where the step before ended.
        known: the last answer as a whole, which is given again if nothing changed; without what was found, for none.
        renews: as of ``Run``.
    """
    keys = source.keys
    whole: Found | None = None if known is None else known.found
    for attempt in range(ATTEMPTS):
        reply = yield Run(
            listing_script("search" if plan.tests else "page"),
            (keys.meta, *(keys.full(index) for index in plan.indexes)),
            (
                *baseline.arguments(whole=whole is not None),
                limit,
                after.score if after else b"",
                after.member if after else b"",
                *plan.span,
                plan.member_prefix,
                keys.full(names.JOB_PREFIX),
                *((MEMBERS_PER_STEP, *plan.tests) if plan.tests else ()),
            ),
            renews=renews and attempt == 0,
        )
        header = Header(reply[0]).require_ready(source.where)
        fields: Sequence[Fields | None] = ()
        if len(reply) == 1 and whole is not None:
            found = whole
        else:
            found, fields = _split_step(reply, plan.member_prefix)
        accept_mixed = attempt + 1 == ATTEMPTS
        jobs, remembered = yield from resolve(
            source, header, found.refs, fields, accept_mixed=accept_mixed
        )
        if jobs is not None:
            return Rows(found, jobs, header, remembered)
    raise rebuilt(source)


def _split_step(
    reply: Sequence[Any], member_prefix: bytes
) -> tuple[Found, Sequence[Fields | None]]:
    """What a step's script replied: what it found, and the fields that came along."""
    _, rows, last, follows, *total = reply
    refs, fields = split_jobs([member_prefix + row[0] for row in rows], [row[1] for row in rows])
    cursor = Cursor(*last) if last else None
    return Found(refs, total[0] if total else None, cursor, Follows(follows)), fields


def _note(
    parsed: ParsedJobCache, signature: Hashable, plan: Plan, header: Header, found: Found | None
) -> None:
    """Remember what a listing found; without it, only from when on jobs must travel again."""
    size = plan.size + (300 if found is None else found.size)
    parsed.note_answer(signature, KnownAnswer(header.epoch, header.generation, found), size)
