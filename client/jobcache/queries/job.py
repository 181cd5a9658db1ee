"""One job by its directory names."""

from __future__ import annotations

from functools import partial

from jobcache.ids import JobId
from jobcache.models import JobMetadata
from jobcache.queries.answer import Answer, AnswerMetadata
from jobcache.queries.fetch import JobRef, learn
from jobcache.queries.freshness import nothing
from jobcache.queries.query import Query, Run
from jobcache.queries.source import Source
from jobcache.schema import keys as names
from jobcache.schema.header import Header
from jobcache.schema.job import ParsedJob
from jobcache.schema.scripts import read_jobs_script


def get_job(
    source: Source, project: str, group: str, name: str, run_id: str
) -> Query[Answer[JobMetadata | None]]:
    """One run, or None."""
    job = JobId.of(project, group, name, run_id)
    if job is None:
        found = yield from nothing(source)
        return Answer(_build_none, found.header)
    path, parsed = job.path, source.parsed
    key = source.keys.full(names.job_key(path))
    known = parsed.known_revision(path)
    while True:
        reply = yield Run(read_jobs_script("job"), (source.keys.meta, key), (known,))
        header = Header(reply[0]).require_ready(source.where)
        if not reply[1]:
            return Answer(_build_none, header)
        revision, *fields = reply[1]
        known_job = (
            learn(parsed, header.epoch, JobRef(path, revision), fields[0])
            if fields
            else parsed.get(path, header.epoch, revision)
        )
        if known_job is not None:
            return Answer(partial(_build_job, known_job), header, (known_job,))
        if fields:
            return Answer(_build_none, header)
        known = b""  # it was dropped meanwhile


def _build_job(job: ParsedJob, metadata: AnswerMetadata) -> JobMetadata:
    return job.build(metadata.as_of)


def _build_none(_: AnswerMetadata) -> None:
    return None
