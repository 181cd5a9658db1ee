"""One job by its directory names."""

from __future__ import annotations

from functools import partial

from jobcache.ids import JobId
from jobcache.models import JobMetadata
from jobcache.queries.answer import Answer, Stamp
from jobcache.queries.fetch import Place, learn
from jobcache.queries.freshness import nothing
from jobcache.queries.query import Plan, Run
from jobcache.queries.source import Source
from jobcache.schema import keys as names
from jobcache.schema.header import Header
from jobcache.schema.job import ParsedJob
from jobcache.schema.scripts import read_jobs_script


def get_job(
    source: Source, project: str, group: str, name: str, run_id: str
) -> Plan[Answer[JobMetadata | None]]:
    """One run, or None."""
    job = JobId.of(project, group, name, run_id)
    if job is None:
        found = yield from nothing(source)
        return Answer(_build_none, found.header)
    path, memo = job.path, source.memo
    key = source.keys.full(names.job_key(path))
    known = memo.known_revision(path)
    while True:
        reply = yield Run(read_jobs_script("job"), (source.keys.meta, key), (known,))
        header = Header(reply[0]).require_ready(source.where)
        if not reply[1]:
            return Answer(_build_none, header)
        revision, *fields = reply[1]
        parsed = (
            learn(memo, header.epoch, Place(path, revision), fields[0])
            if fields
            else memo.get(path, header.epoch, revision)
        )
        if parsed is not None:
            return Answer(partial(_build_job, parsed), header, (parsed,))
        if fields:
            return Answer(_build_none, header)
        known = b""  # it was dropped meanwhile


def _build_job(job: ParsedJob, stamp: Stamp) -> JobMetadata:
    return job.build(stamp.vantage)


def _build_none(_: Stamp) -> None:
    return None
