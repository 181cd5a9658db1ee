"""Where a job stands in the indexes: a pure function of the job.

Nothing else decides what is indexed where. Whoever writes moves an entry by the difference between what this
says of the job before and of the job after.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from jobcache.ids import JobId, encode_name
from jobcache.models import JobStatus
from jobcache.schema import keys

UNREADABLE = float("-inf")
"""Score of a time that cannot be read: it sorts last among the newest first."""


class Entry(NamedTuple):
    """A member of a sorted set; ``key`` is without its prefix."""

    key: bytes
    member: bytes
    score: float


class Placement(NamedTuple):
    """A member that stands in several sorted sets with the same score; ``keys`` are without their prefix."""

    keys: tuple[bytes, ...]
    member: bytes
    score: float


class IndexedFields(NamedTuple):
    """All of a job that its index entries depend on, beside its id. Times are epoch seconds."""

    status: JobStatus
    started_at: float | None
    heartbeat_at: float | None


class Listing(NamedTuple):
    """A name that stands in a sorted set of names for as long as one of the witnesses exists."""

    listing: bytes
    member: bytes
    witnesses: tuple[bytes, ...]


def placements(job: JobId, indexed: IndexedFields) -> tuple[Placement, ...]:
    """Where a job stands in the indexes."""
    path, status = job.path, indexed.status
    started = score(indexed.started_at)
    by_start = Placement(_indexes(job.project, job.group, status), path, started)
    runs = keys.runs_index(job.project, job.group, job.name)
    by_run = Placement((runs,), encode_name(job.run_id), started)
    by_beat = Placement(_beat_indexes(job.project, status), path, score(indexed.heartbeat_at))
    return by_start, by_run, by_beat


def index_entries(job: JobId, indexed: IndexedFields) -> frozenset[Entry]:
    """Every index entry of a job."""
    return frozenset(
        Entry(key, member, score)
        for several, member, score in placements(job, indexed)
        for key in several
    )


@lru_cache(maxsize=4096)
def _indexes(project: str, group: str, status: JobStatus) -> tuple[bytes, ...]:
    """The indexes by start time that take a job by its path."""
    return (
        keys.JOBS,
        keys.status_index(status),
        keys.project_index(project),
        keys.project_status_index(project, status),
        keys.group_status_index(group, status),
        keys.project_group_status_index(project, group, status),
    )


def _beat_indexes(project: str, status: JobStatus) -> tuple[bytes, ...]:
    """The indexes by heartbeat that take a job by its path."""
    index = keys.activity_index(status)
    return (index, keys.running_index(project)) if status is JobStatus.RUNNING else (index,)


def listings(job: JobId) -> tuple[Listing, ...]:
    """The lists of names that a job's project and group stand in."""
    return _listings(job.project, job.group)


@lru_cache(maxsize=4096)
def _listings(project: str, group: str) -> tuple[Listing, ...]:
    return (
        Listing(keys.PROJECTS, encode_name(project), (keys.project_index(project),)),
        Listing(
            keys.groups_listing(project),
            encode_name(group),
            tuple(keys.project_group_status_index(project, group, one) for one in JobStatus),
        ),
    )


def all_entries(job: JobId, indexed: IndexedFields) -> list[Entry]:
    """Every index entry of a job, and with score 0 every name that it keeps in a list of names."""
    named = [Entry(one.listing, one.member, 0.0) for one in listings(job)]
    return [*index_entries(job, indexed), *named]


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


def activity_indexes(
    projects: Iterable[str] | None, statuses: Iterable[JobStatus] | None
) -> tuple[bytes, ...]:
    """The indexes by heartbeat whose disjoint union holds the jobs with some statuses, None for any.

    Projects, None for any, count only where no status is wanted but running.
    """
    wanted = list(JobStatus) if statuses is None else list(statuses)
    if projects is None or wanted != [JobStatus.RUNNING]:
        return tuple(keys.activity_index(status) for status in wanted)
    return tuple(keys.running_index(project) for project in projects)


def score(seconds: float | None) -> float:
    """The score of a time in epoch seconds."""
    return UNREADABLE if seconds is None else seconds


def format_score(value: float) -> bytes:
    """A score as Redis reads it, without loss."""
    return b"-inf" if value == UNREADABLE else repr(value).encode()


def removal_args(entries: Iterable[Entry]) -> list[bytes | int]:
    """Index entries as arguments of a script that removes them."""
    flat = [part for entry in entries for part in (entry.key, entry.member)]
    return [len(flat) // 2, *flat]


def listing_args(several: Iterable[Listing]) -> list[bytes | int]:
    """Listings as arguments of a script that settles them."""
    flat: list[bytes | int] = []
    count = 0
    for listing in several:
        count += 1
        flat += [listing.listing, listing.member, len(listing.witnesses), *listing.witnesses]
    return [count, *flat]
