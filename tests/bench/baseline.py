"""The in-process cache that jobcache replaces: what every web worker did for itself.

It does the work of the original at the same points: pathlib for every step in the tree, whole
files parsed into one pydantic model a job, one dictionary, queries that walk all of it and count
by assigning to pydantic fields, an incremental scan that looks at what is known (new runs wait
for the full scan). Answers follow jobcache's contract, so that the two can be compared.

It is the yardstick: neither slowed down nor tuned, and it shares no code with the project, whose
changes must not move it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

JobKey = tuple[str, str, str, str]
"""Project, group, name, run id."""

FULL_SCAN_INTERVAL = 60.0
STALE_AFTER = timedelta(seconds=300)
LOG_HEAD_CHARACTERS = 64 * 1024
ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
WANDB_URL = re.compile(r"WANDB \| .*?url=(https://\S+)")


class JobStatus(str, Enum):  # noqa: UP042 (as the original had it)
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    PREEMPTED = "preempted"
    UNKNOWN = "unknown"


class HardwareInfo(BaseModel):
    chip: str | None = None
    total_chips: int = 0
    hosts: list[str] = Field(default_factory=list)


class JobMetadata(BaseModel):
    name: str
    project: str
    group: str
    job_key: str
    run_id: str
    start_time: str
    last_heartbeat: str
    status: JobStatus
    slurm_job_id: str | None = None
    hardware: HardwareInfo = Field(default_factory=HardwareInfo)
    config: dict[str, Any] = Field(default_factory=dict)
    log_path: str | None = None
    metadata_path: str | None = None
    wandb_url: str | None = None

    @property
    def duration(self) -> str | None:
        try:
            start = datetime.fromisoformat(self.start_time)
            ended = self.status != JobStatus.RUNNING
            end = datetime.fromisoformat(self.last_heartbeat) if ended else datetime.now()
        except ValueError:
            return None
        hours, rest = divmod(int((end - start).total_seconds()), 3600)
        minutes, seconds = divmod(rest, 60)
        if hours:
            return f"{hours}h {minutes}m"
        return f"{minutes}m {seconds}s" if minutes else f"{seconds}s"

    @property
    def is_stale(self) -> bool:
        if self.status != JobStatus.RUNNING:
            return False
        try:
            heartbeat = datetime.fromisoformat(self.last_heartbeat)
        except ValueError:
            return True
        return datetime.now() - heartbeat > STALE_AFTER


class ProjectSummary(BaseModel):
    name: str
    total_jobs: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    groups: list[str] = Field(default_factory=list)


class DashboardStats(BaseModel):
    total_jobs: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    preempted: int = 0
    total_checkpoints: int = 0
    active_chips: int = 0
    projects: list[ProjectSummary] = Field(default_factory=list)


@dataclass(slots=True)
class _Entry:
    """A job, and the modification times (epoch seconds) of its files when they were read."""

    job: JobMetadata
    metadata_mtime: float
    log_mtime: float


class InProcessJobCache:
    """Every job of `status_dir` in this process's memory, refreshed by a background task.

    `poll_interval` is the time between incremental scans, in seconds; each
    `FULL_SCAN_INTERVAL` a full scan takes the place of one. Only the mode `polling` is here:
    raises `ValueError` for another.
    """

    def __init__(
        self, status_dir: str | Path, mode: str = "polling", poll_interval: float = 10.0
    ) -> None:
        if mode != "polling":
            raise ValueError(f"the baseline only polls: mode {mode!r}")
        self._status_dir = Path(status_dir)
        self._poll_interval = poll_interval
        self._entries: dict[JobKey, _Entry] = {}
        self._task: asyncio.Task[None] | None = None

    # --- lifecycle -----------------------------------------------------------------------

    async def start(self) -> None:
        """Load everything, then refresh in the background."""
        await asyncio.to_thread(self.full_scan)
        self._task = asyncio.create_task(self.refresh())

    async def stop(self) -> None:
        """Stop refreshing. What is loaded can still be queried."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    async def refresh(self) -> None:
        """What `start` leaves to the background: scan for ever."""
        loop = asyncio.get_running_loop()
        last_full_scan = loop.time()
        while True:
            await asyncio.sleep(self._poll_interval)
            if loop.time() - last_full_scan >= FULL_SCAN_INTERVAL:
                await asyncio.to_thread(self.full_scan)
                last_full_scan = loop.time()
            else:
                await asyncio.to_thread(self.incremental_scan)

    # --- scans ---------------------------------------------------------------------------

    def full_scan(self) -> None:
        """Read every run of the tree, and replace what is known."""
        entries: dict[JobKey, _Entry] = {}
        for project_dir in _subdirectories(self._status_dir):
            for group_dir in _subdirectories(project_dir):
                for name_dir in _subdirectories(group_dir):
                    for run_dir in _subdirectories(name_dir):
                        key = (project_dir.name, group_dir.name, name_dir.name, run_dir.name)
                        entry = _read_entry(key, run_dir) if _has_metadata(run_dir) else None
                        if entry is not None:
                            entries[key] = entry
        self._entries = entries

    def incremental_scan(self) -> None:
        """Re-read the known runs of which a file changed; deletions wait for the full scan."""
        for key, entry in list(self._entries.items()):
            run_dir = self._status_dir.joinpath(*key)
            try:
                metadata_mtime = (run_dir / "metadata.json").stat().st_mtime
            except OSError:
                continue
            log_mtime = _mtime_or_zero(run_dir / "output.log")
            if metadata_mtime != entry.metadata_mtime or log_mtime != entry.log_mtime:
                changed = _read_entry(key, run_dir)
                if changed is not None:
                    self._entries[key] = changed

    # --- queries -------------------------------------------------------------------------

    def list_all_jobs(
        self,
        project: str | None = None,
        group: str | None = None,
        status: str | None = None,
        limit: int | None = 100,
    ) -> list[JobMetadata]:
        """The jobs that match every filter given, newest start first."""
        matching = []
        for entry in self._entries.values():
            job = entry.job
            if project is not None and job.project != project:
                continue
            if group is not None and job.group != group:
                continue
            if status is not None and job.status != status:
                continue
            matching.append(job)
        return _newest_first(matching)[:limit]

    def get_job(self, project: str, group: str, name: str, run_id: str) -> JobMetadata | None:
        """One job, or `None`."""
        entry = self._entries.get((project, group, name, run_id))
        return entry.job if entry is not None else None

    def get_job_runs(self, project: str, group: str, name: str) -> list[JobMetadata]:
        """The runs of one name, newest first."""
        return _newest_first(
            [
                entry.job
                for key, entry in self._entries.items()
                if key[2] == name and key[1] == group and key[0] == project
            ]
        )

    def list_projects(self) -> list[ProjectSummary]:
        """A summary of each project, by name."""
        summaries: dict[str, ProjectSummary] = {}
        for entry in self._entries.values():
            job = entry.job
            if job.project not in summaries:
                summaries[job.project] = ProjectSummary(name=job.project)
            summary = summaries[job.project]
            summary.total_jobs += 1
            if job.group not in summary.groups:
                summary.groups.append(job.group)
            if job.status == JobStatus.COMPLETED:
                summary.completed += 1
            elif job.status == JobStatus.FAILED:
                summary.failed += 1
            elif job.status == JobStatus.RUNNING and not job.is_stale:
                summary.running += 1
        for summary in summaries.values():
            summary.groups.sort()
        return sorted(summaries.values(), key=lambda summary: summary.name)

    def get_running_jobs(self) -> list[JobMetadata]:
        """The jobs that run and whose heartbeat is fresh, newest first."""
        return _newest_first(
            [
                entry.job
                for entry in self._entries.values()
                if entry.job.status == JobStatus.RUNNING and not entry.job.is_stale
            ]
        )

    def get_recent_jobs(self, hours: float = 24, limit: int | None = 50) -> list[JobMetadata]:
        """The jobs that started within the last `hours`, newest first."""
        since = datetime.now().timestamp() - hours * 3600
        recent = []
        for entry in self._entries.values():
            try:
                started = datetime.fromisoformat(entry.job.start_time).timestamp()
            except ValueError:
                continue
            if started >= since:
                recent.append(entry.job)
        return _newest_first(recent)[:limit]

    def get_dashboard_stats(self) -> DashboardStats:
        """Totals over every job, and the summary of each project."""
        stats = DashboardStats(total_jobs=len(self._entries), projects=self.list_projects())
        for entry in self._entries.values():
            job = entry.job
            if job.status == JobStatus.COMPLETED:
                stats.completed += 1
            elif job.status == JobStatus.FAILED:
                stats.failed += 1
            elif job.status == JobStatus.PREEMPTED:
                stats.preempted += 1
            elif job.status == JobStatus.RUNNING and not job.is_stale:
                stats.running += 1
                stats.active_chips += job.hardware.total_chips
        return stats

    def delete_job(self, project: str, group: str, name: str, run_id: str) -> None:
        """Forget a job, in this worker only."""
        self._entries.pop((project, group, name, run_id), None)


def _newest_first(jobs: list[JobMetadata]) -> list[JobMetadata]:
    return sorted(jobs, key=lambda job: job.start_time, reverse=True)


def _subdirectories(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if path.is_dir()]
    except OSError:
        return []


def _has_metadata(run_dir: Path) -> bool:
    return (run_dir / "metadata.json").exists()


def _mtime_or_zero(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _read_entry(key: JobKey, run_dir: Path) -> _Entry | None:
    """Parse one run, or `None` if that fails; its names are those of the directories."""
    project, group, name, run_id = key
    metadata_path = run_dir / "metadata.json"
    log_path = run_dir / "output.log"
    try:
        metadata_mtime = metadata_path.stat().st_mtime
        with open(metadata_path) as file:
            data = json.load(file)
        hardware = data.get("hardware") or {}
        job = JobMetadata(
            name=name,
            project=project,
            group=group,
            job_key=data.get("job_key", "unknown"),
            run_id=run_id,
            start_time=data.get("start_time", ""),
            last_heartbeat=data.get("last_heartbeat", ""),
            status=_parse_status(data.get("status")),
            slurm_job_id=data.get("slurm_job_id"),
            hardware=HardwareInfo(
                chip=hardware.get("chip"),
                total_chips=hardware.get("total_chips", 0),
                hosts=hardware.get("hosts", []),
            ),
            config=data.get("config", {}),
            log_path=str(log_path),
            metadata_path=str(metadata_path),
            wandb_url=_find_wandb_url(log_path),
        )
    except (OSError, ValueError, AttributeError):  # a pydantic error is a ValueError
        return None
    return _Entry(job, metadata_mtime, _mtime_or_zero(log_path))


def _parse_status(word: object) -> JobStatus:
    try:
        return JobStatus(word)
    except ValueError:
        return JobStatus.UNKNOWN


def _find_wandb_url(log_path: Path) -> str | None:
    if not log_path.exists():
        return None
    try:
        with open(log_path, errors="ignore") as file:
            head = ANSI_COLOUR.sub("", file.read(LOG_HEAD_CHARACTERS))
    except OSError:
        return None
    match = WANDB_URL.search(head)
    return match.group(1) if match else None
