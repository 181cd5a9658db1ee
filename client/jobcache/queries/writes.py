"""The calls that write: deletions, and what a client asks of the refresher."""

from __future__ import annotations

from jobcache.arguments import NUMBER, require_type
from jobcache.errors import CacheUnavailable
from jobcache.ids import JobId
from jobcache.models import Freshness
from jobcache.numbers import place_in_stream
from jobcache.queries.answer import Answer
from jobcache.queries.freshness import freshness
from jobcache.queries.query import Ask, Pause, Query, Run
from jobcache.queries.source import Source
from jobcache.schema import meta
from jobcache.schema.header import Header
from jobcache.schema.scripts import read_jobs_script, read_script
from jobcache.schema.streams import AUDIT, DELETE, INVALIDATE, REFRESH, request_command

FIRST_PAUSE = 0.002
"""Seconds until a client looks again for the first time whether the refresher came to its request; then twice that."""
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
    if not (yield from _await(source, request, meta.DELETED_POSITION, timeout)):
        raise CacheUnavailable(
            f"no refresher deleted the job from {source.where} within {timeout:g} s; "
            "the request waits for one"
        )
    reply = yield Run(read_script("freshness"), (keys.meta,))
    return Answer(lambda _: was_there, Header(reply[0]))


def invalidate(source: Source, project: str, group: str, name: str, run_id: str) -> Query[None]:
    """Ask the refresher to read a run again."""
    job = _require_id(project, group, name, run_id)
    yield Ask(request_command(source.keys.requests, INVALIDATE, job.path))


def refresh(source: Source, wait: bool, timeout: float) -> Query[Freshness]:
    """Ask for a scan of everything, and wait for one that began after the request."""
    require_type("timeout", timeout, *NUMBER)
    request = yield Ask(request_command(source.keys.requests, REFRESH))
    if wait and not (yield from _await(source, request, meta.REQUEST_POSITION, timeout)):
        raise CacheUnavailable(
            f"no refresher completed a scan of {source.where} within {timeout:g} s"
        )
    return (yield from freshness(source))


def audit(source: Source, timeout: float) -> Query[None]:
    """Ask the refresher to compare everything and to repair it, and wait until it has.

    Raises:
        CacheUnavailable: it did not within so many seconds.
    """
    request = yield Ask(request_command(source.keys.requests, AUDIT))
    if not (yield from _await(source, request, meta.REQUEST_POSITION, timeout)):
        raise CacheUnavailable(f"no refresher audited {source.where} within {timeout:g} s")


def _await(source: Source, request: bytes, field: str, timeout: float) -> Query[bool]:
    """Wait until a field of ``meta`` says that the refresher came to a request; whether it did in so many seconds."""
    waited, pause = 0.0, FIRST_PAUSE
    while True:
        done = yield Ask((b"HGET", source.keys.meta, field))
        if place_in_stream(done) >= place_in_stream(request):
            return True
        if waited >= timeout:
            return False
        waited = yield Pause(min(pause, timeout - waited))
        pause = min(2 * pause, LONGEST_PAUSE)


def _require_id(project: str, group: str, name: str, run_id: str) -> JobId:
    job = JobId.of(project, group, name, run_id)
    if job is None:
        raise ValueError(
            f"{'/'.join((project, group, name, run_id))!r}: no directory can bear these names"
        )
    return job
