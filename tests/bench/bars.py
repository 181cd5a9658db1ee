"""What the project set out to reach, for 100,000 jobs. Information beside a row, never a failure.

A bar that says nothing of a cold client is one for a warm client. KB and MB are powers of ten.
"""

from __future__ import annotations

from dataclasses import dataclass

BARS_HOLD_FOR = 100_000
"""Jobs that the bars are meant for."""


@dataclass(frozen=True, slots=True)
class Bar:
    """The least ratio to the baseline, or the most that the project may need in the row's unit."""

    text: str
    least_ratio: float | None = None
    most: float | None = None
    source: str = "design.md §8"

    def is_met(self, *, ratio: float | None, project: float | None) -> bool | None:
        """Whether a row reaches it; None when the row does not say."""
        if self.least_ratio is not None:
            return None if ratio is None else ratio >= self.least_ratio
        assert self.most is not None
        return None if project is None else project <= self.most


def _times(ratio: float) -> Bar:
    return Bar(f"{ratio:g}x faster", least_ratio=ratio)


_SCALED = Bar("at most 2x slower", least_ratio=0.5)
_NO_BLOCK = Bar("10 ms", most=0.010, source="design.md §6")
_CORE = Bar("5 % of a core", most=0.05)
_WORKER = Bar("30 MB", most=30e6)
_JOB = Bar("4 KB", most=4e3)

QUERIES = (
    "list_all_jobs(limit=100)",
    "list_all_jobs(project)",
    "list_all_jobs(group)",
    "list_all_jobs(status)",
    "list_all_jobs(project, status)",
    "list_all_jobs(project, group)",
    "get_dashboard_stats",
    "list_projects",
    "get_recent_jobs",
    "get_job_runs",
    "get_running_jobs",
    "get_job",
)
"""Every query, by the name that its rows begin with."""

SCALE_BARS = {
    **{f"scale: {query}, {mode}": _SCALED for query in QUERIES for mode in ("warm", "cold")},
    "scale: Redis memory per job": _JOB,
    "scale: worker memory": _WORKER,
    "scale: longest command, publication": _NO_BLOCK,
    "scale: longest command, heartbeats of all that run": _NO_BLOCK,
    "scale: longest command, queries": _NO_BLOCK,
    "scale: longest command, dropping it all": _NO_BLOCK,
}
"""Bars of the comparison of two numbers of jobs."""

BARS = {
    "first scan to ready": _times(3),
    "restart on a warm Redis": _times(10),
    "list_all_jobs(limit=100), warm": _times(100),
    "list_all_jobs(limit=100), cold": _times(30),
    "list_all_jobs(project), warm": _times(40),
    "list_all_jobs(group), warm": _times(40),
    "list_all_jobs(status), warm": _times(40),
    "list_all_jobs(project, status), warm": _times(40),
    "list_all_jobs(project, group), warm": _times(40),
    "get_dashboard_stats, warm": _times(300),
    "list_projects, warm": _times(300),
    "get_recent_jobs, warm": _times(50),
    "get_job_runs, warm": _times(30),
    "get_running_jobs, warm": _times(10),
    "get_job beside PING": Bar("within 1.5x of PING", least_ratio=1 / 1.5),
    "worker memory": _WORKER,
    "Redis memory per job": _JOB,
    "refresher CPU, nothing changes": _CORE,
    "refresher CPU, running jobs beat": _CORE,
    "longest command, first publication": _NO_BLOCK,
    "longest command, queries": _NO_BLOCK,
    **SCALE_BARS,
}
"""Bars by the name of the row."""
