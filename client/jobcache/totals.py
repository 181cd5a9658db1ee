"""The calls that total, as plans. The server keeps the counts; nothing is counted job by job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobcache import keys as names
from jobcache.header import Header
from jobcache.ids import decode_name
from jobcache.models import DashboardStats, JobCounts, JobStatus, ProjectSummary
from jobcache.plan import Plan, Run
from jobcache.queries import Answer, Source
from jobcache.scripts import read_script


def list_projects(source: Source) -> Plan[Answer[list[ProjectSummary]]]:
    """Every project, by name."""
    reply, header = yield from _summary(source)
    return Answer(lambda _: _projects(reply), header)


def get_dashboard_stats(source: Source) -> Plan[Answer[DashboardStats]]:
    """Totals of everything and of every project."""
    reply, header = yield from _summary(source)
    return Answer(
        lambda _: DashboardStats(**_counts(reply).model_dump(), projects=_projects(reply)), header
    )


def counts(source: Source) -> Plan[Answer[JobCounts]]:
    """Totals by status."""
    reply, header = yield from _summary(source)
    return Answer(lambda _: _counts(reply), header)


def _summary(source: Source) -> Plan[tuple[Sequence[Any], Header]]:
    keys = source.keys
    statuses = list(JobStatus)
    reply = yield Run(
        read_script("summary"),
        (
            keys.meta,
            keys.jobs,
            keys.running,
            keys.projects,
            *(keys.full(names.status_index(status)) for status in statuses),
        ),
        (
            keys.full(names.PROJECT_PREFIX),
            keys.full(names.RUNNING_PREFIX),
            keys.full(names.GROUPS_PREFIX),
            names.STATUS_PART,
            *(status.value for status in statuses),
        ),
    )
    return reply, Header.parse(reply[0]).require_ready(source.where)


def _projects(reply: Sequence[Any]) -> list[ProjectSummary]:
    projects = [
        ProjectSummary(
            name=decode_name(name),
            groups=sorted(map(decode_name, groups)),
            **_by_status(totals),
        )
        for name, totals, groups in reply[3]
    ]
    projects.sort(key=lambda project: project.name)
    return projects


def _counts(reply: Sequence[Any]) -> JobCounts:
    return JobCounts(**_by_status(reply[2]), active_chips=int(reply[1] or 0))


def _by_status(totals: Sequence[int]) -> dict[str, int]:
    total, fresh, *by_status = totals
    named = {status.value: count for status, count in zip(JobStatus, by_status, strict=True)}
    stale = named[JobStatus.RUNNING.value] - fresh
    return {**named, "total_jobs": total, JobStatus.RUNNING.value: fresh, "stale": stale}
