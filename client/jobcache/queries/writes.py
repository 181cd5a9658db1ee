"""The calls that write: deletions, and what a client asks of the refresher."""

from __future__ import annotations

from jobcache.errors import CacheUnavailable
from jobcache.ids import JobId
from jobcache.models import Freshness
from jobcache.numbers import read_position
from jobcache.queries.answer import Answer
from jobcache.queries.freshness import freshness
from jobcache.queries.query import Ask, Pause, Query, Run
from jobcache.queries.source import Source
from jobcache.schema import meta
from jobcache.schema.header import Header
from jobcache.schema.scripts import read_jobs_script, read_script
from jobcache.schema.streams import DELETE, INVALIDATE, REFRESH, request_command

FIRST_PAUSE = 0.002
"""Seconds until a client looks for the first time whether its deletion was applied; each pause is twice the last."""
LONGEST_PAUSE = 0.05


def delete_job(
    source: Source, project: str, group: str, name: str, run_id: str, timeout: float
) -> Query[Answer[bool]]:
    """Have the refresher delete a run from the cache; the answer is whether it was there.

    Args:
        source: where to ask.
        project, group, name, run_id: names of the run's directory.
        timeout: seconds that the refresher may take.
    """
    job = _require_id(project, group, name, run_id)
    keys = source.keys
    reply = yield Run(read_jobs_script("job"), (keys.meta, keys.job(job)), (b"",))
    Header(reply[0]).require_ready(source.where)
    was_there = bool(reply[1])
    request = yield Ask(request_command(keys.requests, DELETE, job.path))
    waited, pause = 0.0, FIRST_PAUSE
    while True:
        done = yield Ask((b"HGET", keys.meta, meta.DELETED_POSITION))
        if _has_reached(done, request):
            reply = yield Run(read_script("freshness"), (keys.meta,))
            return Answer(lambda _: was_there, Header(reply[0]))
        if waited >= timeout:
            raise CacheUnavailable(
                f"no refresher deleted the job from {source.where} within {timeout:g} s; "
                "the request waits for one"
            )
        waited = yield Pause(min(pause, timeout - waited))
        pause = min(2 * pause, LONGEST_PAUSE)


def invalidate(source: Source, project: str, group: str, name: str, run_id: str) -> Query[None]:
    """Ask the refresher to read a run again."""
    job = _require_id(project, group, name, run_id)
    yield Ask(request_command(source.keys.requests, INVALIDATE, job.path))


def refresh(source: Source, wait: bool, timeout: float) -> Query[Freshness]:
    """Ask for a scan of everything, and wait for one that began after the request."""
    request = yield Ask(request_command(source.keys.requests, REFRESH))
    if not wait:
        return (yield from freshness(source))
    waited = 0.0
    while True:
        done = yield Ask((b"HGET", source.keys.meta, meta.REQUEST_POSITION))
        if _has_reached(done, request):
            return (yield from freshness(source))
        if waited >= timeout:
            raise CacheUnavailable(
                f"no refresher completed a scan of {source.where} within {timeout:g} s"
            )
        waited = yield Pause(0.05)


def _has_reached(done: bytes | None, request: bytes) -> bool:
    """Whether a position of the stream of requests lies at or behind a request."""
    return (read_position(done) or (0, 0)) >= (read_position(request) or (0, 0))


def _require_id(project: str, group: str, name: str, run_id: str) -> JobId:
    job = JobId.of(project, group, name, run_id)
    if job is None:
        raise ValueError(
            f"{'/'.join((project, group, name, run_id))!r}: no directory can bear these names"
        )
    return job
