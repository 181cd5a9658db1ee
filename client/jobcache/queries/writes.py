"""The calls that write: deletions, and what a client asks of the refresher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
from jobcache.schema.index import Entry, index_entries, listing_args, listings, removal_args
from jobcache.schema.job import JOB_FIELDS, decode_indexed_fields
from jobcache.schema.scripts import read_jobs_script, write_script
from jobcache.schema.streams import CHANGES_CAP, INVALIDATE, REFRESH, REQUESTS_CAP, request_command


def delete_job(
    source: Source, project: str, group: str, name: str, run_id: str
) -> Query[Answer[bool]]:
    """Delete a run from the cache; the answer is whether it was there."""
    job = _require_id(project, group, name, run_id)
    keys = source.keys
    while True:
        reply = yield Run(read_jobs_script("job"), (keys.meta, keys.job(job)), (b"",))
        header = Header(reply[0]).require_ready(source.where)
        revision, entries = _known(job, reply[1])
        reply = yield Run(
            write_script("delete"),
            (keys.meta, keys.job(job), keys.tombstones, keys.changes, keys.requests),
            (
                header.epoch,
                job.path,
                revision,
                CHANGES_CAP,
                REQUESTS_CAP,
                keys.prefix,
                *removal_args(entries),
                *listing_args(listings(job)),
            ),
        )
        if reply[1] != b"changed":
            return _outcome(reply[1] == b"deleted", Header(reply[0]))


def _outcome(was_there: bool, header: Header) -> Answer[bool]:
    return Answer(lambda _: was_there, header)


def _known(job: JobId, row: Sequence[Any]) -> tuple[bytes, frozenset[Entry]]:
    """The revision and the index entries of a job that ``job.lua`` read; empty if there is none."""
    if not row:
        return b"", frozenset()
    revision, values = row
    fields = {
        name: value for name, value in zip(JOB_FIELDS, values, strict=True) if value is not None
    }
    return revision, index_entries(job, decode_indexed_fields(fields))


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
        if (read_position(done) or (0, 0)) >= (read_position(request) or (0, 0)):
            return (yield from freshness(source))
        if waited >= timeout:
            raise CacheUnavailable(
                f"no refresher completed a scan of {source.where} within {timeout:g} s"
            )
        waited = yield Pause(0.05)


def _require_id(project: str, group: str, name: str, run_id: str) -> JobId:
    job = JobId.of(project, group, name, run_id)
    if job is None:
        raise ValueError(
            f"{'/'.join((project, group, name, run_id))!r}: no directory can bear these names"
        )
    return job
