"""The jobs that an answer names: those that this process knows stay here, the others are fetched."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, TypeAlias

from jobcache.errors import CacheUnavailable
from jobcache.ids import JobId
from jobcache.queries.parsed import Memo
from jobcache.queries.query import Plan, Run
from jobcache.queries.source import Source
from jobcache.schema import keys as names
from jobcache.schema.header import Header
from jobcache.schema.job import ParsedJob, parse_job
from jobcache.schema.keys import Keys
from jobcache.schema.scripts import read_jobs_script

CHUNK = 200
"""Most jobs that one step reads with their fields; longer answers take several steps."""

ATTEMPTS = 3
"""How often a query is asked again because jobs were written between two steps of it."""


class Place(NamedTuple):
    """Where a job stands in an answer."""

    path: bytes
    revision: bytes
    """Empty when an index named a job that was not there."""


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


def rebuilt(source: Source) -> CacheUnavailable:
    """What to raise when every attempt met a cache that was built anew between its steps."""
    return CacheUnavailable(f"{source.where} is built anew again and again")
