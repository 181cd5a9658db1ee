"""What the queries answer with. Plain pydantic models; every call builds fresh ones."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Any

from pydantic import BaseModel, Field

from jobcache.ids import JobId
from jobcache.lazy import LazyModel
from jobcache.times import format_duration, parse_timestamp

DEFAULT_STALE_AFTER = 300.0
"""Seconds without a heartbeat after which a running job counts as stale."""


class JobStatus(str, Enum):  # noqa: UP042 - str() of a member must stay what the in-process cache gave
    """How a run stands. A run killed with SIGKILL stays ``running`` and turns stale."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    PREEMPTED = "preempted"
    UNKNOWN = "unknown"


class HardwareInfo(BaseModel):
    """What a run was given to run on."""

    chip: str | None = None
    total_chips: int = 0
    hosts: list[str] = Field(default_factory=list)


class JobMetadata(LazyModel):
    """One run, as its ``metadata.json`` describes it and its directory names it.

    ``project``, ``group``, ``name`` and ``run_id`` are the directory's names, also where the JSON says
    ``null``. ``start_time`` and ``last_heartbeat`` are the strings as written. All text is valid Unicode: names and
    paths as ``jobcache.ids`` shows them, whose ``encode_name`` gives the bytes to open a path with.
    """

    name: str
    project: str
    group: str
    job_key: str = ""
    run_id: str
    start_time: str = ""
    last_heartbeat: str = ""
    status: JobStatus = JobStatus.UNKNOWN
    status_text: str | None = None
    """The status as it was written, such as ``TIMEOUT``; None when that is the status itself."""
    slurm_job_id: str | None = None
    hardware: HardwareInfo = Field(default_factory=HardwareInfo)
    config: dict[str, Any] = Field(default_factory=dict)
    extra: dict[str, Any] = Field(default_factory=dict)
    """Fields of ``metadata.json`` that no other field here shows; those of ``hardware`` under that name."""
    log_path: str | None = None
    metadata_path: str | None = None
    wandb_url: str | None = None
    started_at: datetime | None = None
    """Start as an aware UTC time; None when ``start_time`` cannot be read."""
    heartbeat_at: datetime | None = None
    """Last heartbeat as an aware UTC time; None when it cannot be read."""
    stale: bool | None = None
    """Whether the run was stale as of the last completed refresh; None outside of an answer."""

    @property
    def id(self) -> JobId:
        """The directory path that identifies the run."""
        return JobId(self.project, self.group, self.name, self.run_id)

    @property
    def duration(self) -> str | None:
        """How long the run has run, such as ``4h 34m``; up to the last heartbeat once it has ended.

        None when a time that it needs cannot be read.
        """
        started = self.started_at or parse_timestamp(self.start_time)
        if self.status is JobStatus.RUNNING:
            until: datetime | None = datetime.now(UTC)
        else:
            until = self.heartbeat_at or parse_timestamp(self.last_heartbeat)
        if started is None or until is None:
            return None
        return format_duration((until - started).total_seconds())

    @property
    def is_stale(self) -> bool:
        """Whether the run says ``running`` but has not been heard of for the threshold (300 s by default).

        Judged as of the last completed refresh, so that a refresher that stopped turns no job stale; by
        this process's clock for a model that did not come from a cache.
        """
        if self.stale is not None:
            return self.stale
        if self.status is not JobStatus.RUNNING:
            return False
        beat = self.heartbeat_at or parse_timestamp(self.last_heartbeat)
        return beat is None or (datetime.now(UTC) - beat).total_seconds() > DEFAULT_STALE_AFTER


class ProjectSummary(BaseModel):
    """Totals of one project. ``running`` counts fresh running jobs, ``stale`` the other running ones."""

    name: str
    total_jobs: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    preempted: int = 0
    unknown: int = 0
    stale: int = 0
    groups: list[str] = Field(default_factory=list)


class JobCounts(BaseModel):
    """Totals by status. ``running`` counts fresh running jobs, ``stale`` the other running ones."""

    total_jobs: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    preempted: int = 0
    unknown: int = 0
    stale: int = 0
    active_chips: int = 0
    """Chips of the fresh running jobs."""
    problems: int = 0
    """Paths that the refresher should read and does not; ``problems()`` names them."""


class DashboardStats(JobCounts):
    """Totals for a front page; a fresh, mutable object per call."""

    total_checkpoints: int = 0
    """Always 0 here; the application fills it."""
    projects: list[ProjectSummary] = Field(default_factory=list)


class CacheState(str, Enum):  # noqa: UP042 - as JobStatus
    """How far the cache can be trusted."""

    ABSENT = "absent"
    """No refresher has ever written to this namespace."""
    BUILDING = "building"
    """A first scan is under way; queries raise ``CacheNotReady``."""
    READY = "ready"
    DEGRADED = "degraded"
    """Answers are whole but may be old: the refresher cannot read the status directory, its next scan is overdue, or
    Redis does not answer."""


class Freshness(BaseModel):
    """How old an answer is."""

    state: CacheState
    reason: str | None = None
    """Why the state is ``degraded``, in one line."""
    completed_at: datetime | None = None
    """End of the last completed scan, by the server's clock."""
    age: float | None = None
    """Seconds since then, by the server's clock."""
    generation: int = 0
    """Grows with every write within an epoch; equal generations give equal answers."""
    epoch: str = ""
    """Changes when the cache is built anew, for example after ``FLUSHALL``."""
    last_good: bool = False
    """Whether Redis did not answer, and this is of an answer that this process got before (``stale_if_error``)."""


class JobPage(BaseModel):
    """One page of a listing."""

    jobs: list[JobMetadata]
    total: int | None
    """How many jobs the filters match in all; None if that would have to be counted job by job."""
    cursor: str | None
    """Pass it on to get the next page; None after the last one."""
    freshness: Freshness


class Problem(BaseModel):
    """A path in the status directory that should be read and is not, or not as it stands there.

    What was last read well of a run stays in the cache: ``get_job`` tells whether there is anything.
    """

    path: str
    """Below the status directory: of a run, or of a directory above the runs."""
    reason: str
    """Why, in one line for people."""
    since: datetime
    """When a scan first saw it, by the server's clock, whatever the reason was then."""


class ChangeKind(str, Enum):  # noqa: UP042 - as JobStatus
    """What happened to a job."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"
    RESYNC = "resync"
    """Changes were missed (the feed is capped, or the cache was rebuilt): list again, then go on."""


class Change(BaseModel):
    """One entry of the change feed."""

    kind: ChangeKind
    id: JobId | None
    """None for ``resync``."""
    position: str
    """Where the feed stands after this change; pass it as ``since`` to resume."""
