"""The calls that total, as queries. The server keeps the counts; nothing is counted job by job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jobcache.ids import decode_name, decode_names
from jobcache.lazy import assemble
from jobcache.models import DashboardStats, JobCounts, JobStatus, ProjectSummary
from jobcache.numbers import read_int
from jobcache.queries.answer import Answer
from jobcache.queries.parsed_jobs import KnownAnswer
from jobcache.queries.query import Query, Run
from jobcache.queries.source import Source
from jobcache.schema import keys as names
from jobcache.schema.header import Header
from jobcache.schema.scripts import read_script

_STATUSES = tuple(status.value for status in JobStatus)
_RUNNING = JobStatus.RUNNING.value
_SIGNATURE = "summary"
_COUNTS_FIELDS = set(JobCounts.model_fields)
_STATS_FIELDS = set(DashboardStats.model_fields)
_PROJECT_FIELDS = set(ProjectSummary.model_fields)


def list_projects(source: Source) -> Query[Answer[list[ProjectSummary]]]:
    """Every project, by name."""
    summary, header = yield from _summary(source)
    return Answer(lambda _: _build_projects(summary), header)


def get_dashboard_stats(source: Source) -> Query[Answer[DashboardStats]]:
    """Totals of everything and of every project."""
    summary, header = yield from _summary(source)
    return Answer(lambda _: _build_stats(summary), header)


def counts(source: Source) -> Query[Answer[JobCounts]]:
    """Totals by status."""
    summary, header = yield from _summary(source)
    return Answer(lambda _: assemble(JobCounts, {**summary.counts}, _COUNTS_FIELDS), header)


class _Project(NamedTuple):
    counts: dict[str, Any]
    groups: Sequence[str]


class _Summary(NamedTuple):
    counts: dict[str, Any]
    projects: list[_Project]

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return 1000 + sum(1000 + 100 * len(project.groups) for project in self.projects)


def _summary(source: Source) -> Query[tuple[_Summary, Header]]:
    keys, parsed = source.keys, source.parsed
    known = parsed.known_answer(_SIGNATURE)
    reply = yield Run(
        read_script("summary"),
        (
            keys.meta,
            keys.jobs,
            keys.running,
            keys.projects,
            *(keys.full(names.status_index(status)) for status in JobStatus),
        ),
        (
            known.epoch if known else b"",
            known.generation if known else b"",
            keys.full(names.PROJECT_PREFIX),
            keys.full(names.RUNNING_PREFIX),
            keys.full(names.GROUPS_PREFIX),
            names.STATUS_PART,
            *_STATUSES,
        ),
    )
    header = Header(reply[0]).require_ready(source.where)
    if len(reply) == 1 and known is not None:
        return known.found, header
    summary = _read(reply)
    answer = KnownAnswer(header.epoch, header.generation, summary)
    parsed.note_answer(_SIGNATURE, answer, summary.size)
    return summary, header


def _read(reply: Sequence[Any]) -> _Summary:
    projects = [
        _Project({"name": decode_name(name), **_by_status(totals)}, sorted(decode_names(groups)))
        for name, totals, groups in reply[3]
    ]
    projects.sort(key=lambda project: project.counts["name"])
    beside = {"active_chips": read_int(reply[1]) or 0, "problems": read_int(reply[4]) or 0}
    return _Summary({**_by_status(reply[2]), **beside}, projects)


def _by_status(totals: Sequence[int]) -> dict[str, int]:
    total, fresh, *by_status = totals
    named = dict(zip(_STATUSES, by_status, strict=True))
    stale = named[_RUNNING] - fresh
    return {"total_jobs": total, **named, _RUNNING: fresh, "stale": stale}


def _build_stats(summary: _Summary) -> DashboardStats:
    totals = {**summary.counts, "total_checkpoints": 0, "projects": _build_projects(summary)}
    return assemble(DashboardStats, totals, _STATS_FIELDS)


def _build_projects(summary: _Summary) -> list[ProjectSummary]:
    return [
        assemble(ProjectSummary, {**counts, "groups": [*groups]}, _PROJECT_FIELDS)
        for counts, groups in summary.projects
    ]
