"""What the queries answer with. Plain pydantic models; every call builds fresh ones."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    WithJsonSchema,
    computed_field,
)

from jobcache.ids import JobId
from jobcache.lazy import LazyModel
from jobcache.times import format_duration, parse_timestamp

DEFAULT_STALE_AFTER = 300.0
"""Seconds without a heartbeat after which a running job counts as stale."""


def _read_id(value: Any) -> Any:
    return JobId(*value.split("/")) if isinstance(value, str) and value.count("/") == 3 else value


ShownId = Annotated[
    JobId,
    BeforeValidator(_read_id),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string"}),
]
"""An id that a dump, JSON and OpenAPI show as text, ``project/group/name/run_id``."""


class JobStatus(str, Enum):  # noqa: UP042 - str() of a member must stay what the in-process cache gave
    """How a run stands. A run killed with SIGKILL stays ``running`` and turns stale."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    PREEMPTED = "preempted"
    UNKNOWN = "unknown"


class HardwareInfo(BaseModel):
    """What a run was given to run on."""

    chip: str | None = Field(default=None, description="Type of the chips, such as h100.")
    total_chips: int = Field(default=0, description="Number of chips on all hosts.")
    hosts: list[str] = Field(default_factory=list, description="Names of the hosts.")


class JobMetadata(LazyModel):
    """One run, as its ``metadata.json`` describes it and its directory names it.

    ``project``, ``group``, ``name`` and ``run_id`` are the directory's names, also where the JSON says
    ``null``. ``start_time`` and ``last_heartbeat`` are the strings as written. All text is valid Unicode: names and
    paths as ``jobcache.ids`` shows them, whose ``encode_name`` gives the bytes to open a path with.
    """

    name: str = Field(description="Name of the job: the third of the directory's names.")
    project: str = Field(description="The first of the directory's names.")
    group: str = Field(description="The second of the directory's names.")
    job_key: str = Field(default="", description="Key of the job, as written.")
    run_id: str = Field(description="The last of the directory's names.")
    start_time: str = Field(default="", description="Time of the start, as written.")
    last_heartbeat: str = Field(default="", description="Time of the last heartbeat, as written.")
    status: JobStatus = Field(
        default=JobStatus.UNKNOWN,
        description="How the run stands, as its file says; see also is_stale.",
    )
    status_text: str | None = Field(
        default=None,
        description="The status as it was written, such as TIMEOUT; null when that is the status itself.",
    )
    slurm_job_id: str | None = Field(default=None, description="Id of the SLURM job, as written.")
    hardware: HardwareInfo = Field(
        default_factory=HardwareInfo, description="What the run was given to run on."
    )
    config: dict[str, Any] = Field(default_factory=dict, description="The config of the run.")
    extra: dict[str, Any] = Field(
        default_factory=dict,
        description="Fields of metadata.json that no other field here shows; those of hardware under that name.",
    )
    log_path: str | None = Field(
        default=None, description="Path of output.log; null when there is none."
    )
    metadata_path: str | None = Field(default=None, description="Path of metadata.json.")
    wandb_url: str | None = Field(
        default=None, description="Address of the W&B run, found in the log."
    )
    started_at: datetime | None = Field(
        default=None, description="Start as a UTC time; null when start_time cannot be read."
    )
    heartbeat_at: datetime | None = Field(
        default=None, description="Last heartbeat as a UTC time; null when it cannot be read."
    )
    stale: bool | None = Field(
        default=None,
        description="Whether the run was stale as of the last completed scan; null outside of an answer.",
    )
    as_of: datetime | None = Field(
        default=None,
        description="End of the last completed scan as of this answer, by the server's clock; null outside of one.",
    )

    @computed_field(repr=False)  # type: ignore[prop-decorator]
    @property
    def id(self) -> ShownId:
        """The directory path that identifies the run, as project/group/name/run_id."""
        return JobId(self.project, self.group, self.name, self.run_id)

    @computed_field(repr=False)  # type: ignore[prop-decorator]
    @property
    def duration(self) -> str | None:
        """How long the run has run, such as 4h 34m, 2m 5s or 9s; see duration_seconds."""
        seconds = self.duration_seconds
        return None if seconds is None else format_duration(seconds)

    @computed_field(repr=False)  # type: ignore[prop-decorator]
    @property
    def duration_seconds(self) -> float | None:
        """Seconds from the start to the last heartbeat, or, of a live run, to the last completed scan (as_of).

        Null when a time that it needs cannot be read. Of a live run outside of an answer, the seconds until now.
        """
        started = self.started_at or parse_timestamp(self.start_time)
        if self.status is JobStatus.RUNNING and not self.is_stale:
            until: datetime | None = self.as_of or datetime.now(UTC)
        else:
            until = self.heartbeat_at or parse_timestamp(self.last_heartbeat)
        if started is None or until is None:
            return None
        return max(0.0, (until - started).total_seconds())

    @computed_field(repr=False)  # type: ignore[prop-decorator]
    @property
    def is_stale(self) -> bool:
        """Whether the run says running but has not been heard of for the threshold (300 s by default).

        Judged as of the last completed scan, so that a refresher that stopped turns no job stale. Outside of an answer,
        by this process's clock.
        """
        if self.stale is not None:
            return self.stale
        if self.status is not JobStatus.RUNNING:
            return False
        beat = self.heartbeat_at or parse_timestamp(self.last_heartbeat)
        return beat is None or (datetime.now(UTC) - beat).total_seconds() > DEFAULT_STALE_AFTER

    def __eq__(self, other: object) -> bool:
        """Whether both say the same of a run, as of whichever scan."""
        if isinstance(other, JobMetadata) and self.as_of != other.as_of:
            other = other.model_copy(update={"as_of": self.as_of})
        return super().__eq__(other)


class ProjectSummary(BaseModel):
    """Totals of one project."""

    name: str = Field(description="Name of the project.")
    total_jobs: int = Field(default=0, description="All runs.")
    running: int = Field(
        default=0, description="Runs that are running and whose heartbeat is fresh."
    )
    completed: int = Field(default=0, description="Runs that have completed.")
    failed: int = Field(default=0, description="Runs that have failed.")
    preempted: int = Field(default=0, description="Runs that were preempted.")
    unknown: int = Field(default=0, description="Runs of no known status.")
    stale: int = Field(default=0, description="Runs that say running, without a fresh heartbeat.")
    groups: list[str] = Field(default_factory=list, description="Names of its groups, sorted.")


class JobCounts(BaseModel):
    """Totals by status."""

    total_jobs: int = Field(default=0, description="All runs.")
    running: int = Field(
        default=0, description="Runs that are running and whose heartbeat is fresh."
    )
    completed: int = Field(default=0, description="Runs that have completed.")
    failed: int = Field(default=0, description="Runs that have failed.")
    preempted: int = Field(default=0, description="Runs that were preempted.")
    unknown: int = Field(default=0, description="Runs of no known status.")
    stale: int = Field(default=0, description="Runs that say running, without a fresh heartbeat.")
    active_chips: int = Field(default=0, description="Chips of the runs that count as running.")
    problems: int = Field(
        default=0,
        description="Paths that the refresher should read and does not; problems() names them.",
    )


class DashboardStats(JobCounts):
    """Totals for a front page; a fresh, mutable object per call."""

    total_checkpoints: int = Field(
        default=0, description="Always 0 here; the application fills it."
    )
    projects: list[ProjectSummary] = Field(
        default_factory=list, description="Totals of each project, by name."
    )


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

    state: CacheState = Field(description="How far the answer can be trusted.")
    reason: str | None = Field(default=None, description="Why the state is degraded, in one line.")
    completed_at: datetime | None = Field(
        default=None, description="End of the last completed scan, by the server's clock."
    )
    age: float | None = Field(
        default=None, description="Seconds since then, by the server's clock."
    )
    generation: int = Field(
        default=0,
        description="Grows with every write within an epoch; equal generations give equal answers.",
    )
    epoch: str = Field(
        default="", description="Changes when the cache is built anew, for example after FLUSHALL."
    )
    last_good: bool = Field(
        default=False,
        description="Whether Redis did not answer, and this is of an older answer of this process (stale_if_error).",
    )


class JobPage(BaseModel):
    """One page of a listing."""

    jobs: list[JobMetadata] = Field(description="The jobs of this page.")
    total: int | None = Field(
        description="How many jobs the filters match in all; null if they would have to be counted job by job."
    )
    cursor: str | None = Field(
        description="Pass it on to get the next page; null after the last one."
    )
    freshness: Freshness = Field(description="How old the page is.")


class Problem(BaseModel):
    """A path in the status directory that should be read and is not, or not as it stands there.

    What was last read well of a run stays in the cache: ``get_job`` tells whether there is anything.
    """

    path: str = Field(
        description="Path below the status directory: of a run, or of a directory above the runs."
    )
    reason: str = Field(description="Why, in one line for people.")
    since: datetime = Field(
        description="When a scan first saw it, by the server's clock, whatever the reason was then."
    )


class ChangeKind(str, Enum):  # noqa: UP042 - as JobStatus
    """What happened to a job."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"
    RESYNC = "resync"
    """Changes were missed (the feed is capped, or the cache was rebuilt): list again, then go on."""


class Change(BaseModel):
    """One entry of the change feed."""

    kind: ChangeKind = Field(description="What happened.")
    id: ShownId | None = Field(
        description="The run, as project/group/name/run_id; null for resync."
    )
    position: str = Field(
        description="Where the feed stands after this change; pass it as since to resume."
    )
