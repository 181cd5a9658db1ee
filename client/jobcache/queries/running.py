"""The jobs that run with a fresh heartbeat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jobcache.models import JobMetadata
from jobcache.queries.answer import Answer
from jobcache.queries.fetch import (
    ATTEMPTS,
    CHUNK,
    NO_BASELINE,
    Baseline,
    Fields,
    JobRef,
    ask_for_jobs,
    rebuilt,
    resolve,
    split_jobs,
)
from jobcache.queries.paging import Found
from jobcache.queries.parsed_jobs import KnownAnswer
from jobcache.queries.query import Query, Run
from jobcache.queries.source import Source
from jobcache.schema import keys as names
from jobcache.schema.header import Header
from jobcache.schema.job import ParsedJob
from jobcache.schema.scripts import read_jobs_script

MOST_RUNNING = 1000
"""Most running jobs of which the step that finds them tells the revision: some milliseconds of the server's time."""
MOST_RUNNING_READ = 100
"""Most of them that are read whole in that step."""


def get_running_jobs(
    source: Source, most: int = MOST_RUNNING, most_read: int = MOST_RUNNING_READ
) -> Query[Answer[list[JobMetadata]]]:
    """Running jobs with a fresh heartbeat, newest start first.

    Args:
        source: where to read.
        most: running jobs of which the step that finds them tells the revision.
        most_read: how many of them are read whole in that step.
    """
    keys, parsed = source.keys, source.parsed
    known = parsed.known_answer(names.RUNNING)
    baseline = NO_BASELINE if known is None else Baseline(known.epoch, known.generation)
    for attempt in range(ATTEMPTS):
        reply = yield Run(
            read_jobs_script("running"),
            (keys.meta, keys.running),
            (
                *baseline.arguments(whole=known is not None),
                most,
                most_read,
                keys.full(names.JOB_PREFIX),
            ),
        )
        header = Header(reply[0]).require_ready(source.where)
        if len(reply) == 1 and known is not None:
            refs: Sequence[JobRef] = known.found.refs
            fields: list[Fields | None] = []
        else:
            paths, rows, told = reply[1], [*reply[2]], [header]
            for start in range(len(rows), len(paths), CHUNK):
                some = yield ask_for_jobs(keys, paths[start : start + CHUNK], baseline, renews=True)
                told.append(Header(some[0]))
                rows += some[1]
            if any(one.epoch != header.epoch for one in told):
                continue
            refs, fields = split_jobs(paths, rows)
            if all(one.moment == header.moment for one in told):
                whole = Found(refs, len(refs))
                answer = KnownAnswer(header.epoch, header.generation, whole)
                parsed.note_answer(names.RUNNING, answer, whole.size)
        accept_mixed = attempt + 1 == ATTEMPTS
        jobs, _ = yield from resolve(source, header, refs, fields, accept_mixed=accept_mixed)
        if jobs is not None:
            return Answer.of(_fresh(jobs, header), header)
    raise rebuilt(source)


def _fresh(jobs: Iterable[ParsedJob], header: Header) -> list[ParsedJob]:
    """Those that run with a fresh heartbeat, newest start first: what took several steps may have changed meanwhile."""
    as_of = header.as_of
    fresh = [job for job in jobs if job.is_running and job.is_fresh(as_of)]
    fresh.sort(key=_newest_first, reverse=True)
    return fresh


def _newest_first(job: ParsedJob) -> tuple[float, bytes]:
    return job.newest_first
