"""The jobs that an answer names: those that this process knows stay here, the others are fetched."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, TypeAlias

from jobcache.errors import CacheUnavailable
from jobcache.ids import JobId
from jobcache.queries.parsed_jobs import ParsedJobCache
from jobcache.queries.query import Query, Run
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


class JobRef(NamedTuple):
    """Where a job stands in an answer."""

    path: bytes
    revision: bytes
    """Empty when an index named a job that was not there."""


class Baseline(NamedTuple):
    """Baseline when a reader may know jobs: it need not be sent again what is older."""

    epoch: bytes
    generation: int

    def arguments(self, *, whole: bool) -> tuple[bytes | int, ...]:
        """For a script; ``whole`` if the reader still knows the answer and not only some of its jobs."""
        return (self.epoch, self.generation, b"1" if whole else b"")


NO_BASELINE = Baseline(b"", 0)

Fields: TypeAlias = Sequence[bytes | None]
"""Values of a job's hash, in the order of ``JOB_FIELDS``."""


def split_jobs(
    paths: Sequence[bytes], rows: Sequence[Sequence[Any]]
) -> tuple[list[JobRef], list[Fields | None]]:
    """Revision and fields of each job, out of what the scripts' ``read_job`` replied."""
    refs = [JobRef(path, row[0] if row else b"") for path, row in zip(paths, rows, strict=True)]
    return refs, [row[1] if len(row) == 2 else None for row in rows]


def resolve(
    source: Source,
    header: Header,
    refs: Sequence[JobRef],
    fields: Sequence[Fields | None],
    *,
    accept_mixed: bool,
) -> Query[tuple[list[ParsedJob] | None, bool]]:
    """Find the jobs that an answer names: among what came along, in this process, or by asking once more.

    Args:
        source: where to ask.
        header: of the answer.
        refs: the jobs, each with its revision.
        fields: what came along with the answer, in the order of ``refs``.
        accept_mixed: whether a job may be of a later moment than the answer.

    Returns ``(jobs, all_known)``. ``jobs`` is None if the caller must ask again: a job changed between two steps
    (ignored with ``accept_mixed``), or the epoch changed (never ignored). ``all_known`` says whether nothing had to be
    fetched.
    """
    parsed, epoch = source.parsed, header.epoch
    jobs: list[ParsedJob | None] = []
    unknown = []
    for ref, values in zip_longest(refs, fields):
        if values is not None:
            job = learn(parsed, epoch, ref, values)
        else:
            job = parsed.get(ref.path, epoch, ref.revision)
            if job is None and ref.revision:
                unknown.append(len(jobs))
        jobs.append(job)
    for start in range(0, len(unknown), CHUNK):
        numbers = unknown[start : start + CHUNK]
        paths = [refs[number].path for number in numbers]
        reply = yield ask_for_jobs(source.keys, paths, NO_BASELINE, renews=start > 0)
        if Header(reply[0]).epoch != epoch:
            return None, False
        fetched, values_of = split_jobs(paths, reply[1])
        for number, ref, values in zip(numbers, fetched, values_of, strict=True):
            if not accept_mixed and ref.revision != refs[number].revision:
                return None, False
            if values is not None:
                jobs[number] = learn(parsed, epoch, ref, values)
    return [job for job in jobs if job is not None], not unknown


def learn(parsed: ParsedJobCache, epoch: bytes, ref: JobRef, values: Fields) -> ParsedJob | None:
    """Parse a job, and remember it; None when its hash is gone."""
    job = parse_job(JobId.from_path(ref.path), values)
    if job is not None:
        parsed.put(ref.path, epoch, ref.revision, job)
    return job


def ask_for_jobs(keys: Keys, paths: Sequence[bytes], baseline: Baseline, *, renews: bool) -> Run:
    """Ask for some jobs; fields come along of those that were written later."""
    args: tuple[bytes | str | int, ...] = (*baseline, keys.full(names.JOB_PREFIX), *paths)
    return Run(read_jobs_script("jobs"), (keys.meta,), args, renews)


def rebuilt(source: Source) -> CacheUnavailable:
    """What to raise when every attempt met a cache that was built anew between its steps."""
    return CacheUnavailable(f"{source.where} is built anew again and again")
