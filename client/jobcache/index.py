"""Where a job stands in the indexes: a pure function of the job.

Nothing else decides what is indexed where. Whoever writes moves an entry by the difference between what this
says of the job before and of the job after.
"""

from __future__ import annotations

from typing import NamedTuple

from jobcache import keys
from jobcache.ids import JobId, encode_name
from jobcache.models import JobStatus

UNREADABLE = float("-inf")
"""Score of a time that cannot be read: it sorts last among the newest first."""


class Entry(NamedTuple):
    """A member of a sorted set; ``key`` is without its prefix."""

    key: bytes
    member: bytes
    score: float


class Standing(NamedTuple):
    """All of a job that its index entries depend on, beside its id. Times are epoch seconds."""

    status: JobStatus
    started_at: float | None
    heartbeat_at: float | None


class Listing(NamedTuple):
    """A name that stands in a sorted set of names for as long as one of the witnesses exists."""

    listing: bytes
    member: bytes
    witnesses: tuple[bytes, ...]


def index_entries(job: JobId, standing: Standing) -> frozenset[Entry]:
    """Every index entry of a job."""
    path, status = job.path, standing.status
    started = score(standing.started_at)
    entries = [
        Entry(keys.JOBS, path, started),
        Entry(keys.status_index(status), path, started),
        Entry(keys.project_index(job.project), path, started),
        Entry(keys.project_status_index(job.project, status), path, started),
        Entry(keys.group_status_index(job.group, status), path, started),
        Entry(keys.project_group_status_index(job.project, job.group, status), path, started),
        Entry(keys.runs_index(job.project, job.group, job.name), encode_name(job.run_id), started),
    ]
    if status is JobStatus.RUNNING:
        beat = score(standing.heartbeat_at)
        entries += [
            Entry(keys.RUNNING, path, beat),
            Entry(keys.running_index(job.project), path, beat),
        ]
    return frozenset(entries)


def listings(job: JobId) -> tuple[Listing, ...]:
    """The lists of names that a job's project and group stand in."""
    return (
        Listing(keys.PROJECTS, encode_name(job.project), (keys.project_index(job.project),)),
        Listing(
            keys.groups_listing(job.project),
            encode_name(job.group),
            tuple(
                keys.project_group_status_index(job.project, job.group, status)
                for status in JobStatus
            ),
        ),
    )


def filter_indexes(
    project: str | None, group: str | None, status: JobStatus | None
) -> tuple[bytes, ...]:
    """The indexes whose disjoint union is what the filters match.

    A group without a status is the union over the statuses: five short reads instead of two more
    entries for every job.
    """
    if group is not None:
        statuses = list(JobStatus) if status is None else [status]
        if project is None:
            return tuple(keys.group_status_index(group, one) for one in statuses)
        return tuple(keys.project_group_status_index(project, group, one) for one in statuses)
    if project is not None:
        if status is None:
            return (keys.project_index(project),)
        return (keys.project_status_index(project, status),)
    return (keys.JOBS,) if status is None else (keys.status_index(status),)


def score(seconds: float | None) -> float:
    """The score of a time in epoch seconds."""
    return UNREADABLE if seconds is None else seconds


def format_score(value: float) -> bytes:
    """A score as Redis reads it, without loss."""
    return b"-inf" if value == UNREADABLE else repr(value).encode()
