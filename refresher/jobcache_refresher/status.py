"""How a refresher is doing, for metrics and for whoever holds the object."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

from jobcache.models import ChangeKind

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Status:
    """Counts since this process began, and the state as of the last refresh."""

    leads: bool = False
    """Whether it holds the lease."""
    leadership_lost: int = 0
    """How often it ceased to lead without being stopped."""
    degraded: str = ""
    """Why answers may be old or not whole; empty while all is well."""
    overdue: bool = False
    """Whether it leads, and a scan should have completed by now."""
    jobs: int = 0
    """This and the next five are of the last scan that it completed since it leads."""
    errors: int = 0
    """Directories and files that cannot be read, or not as a job."""
    problems: int = 0
    """Paths that should be read and are not, or not as they stand."""
    held: int = 0
    """Deletions that wait for an operator."""
    scan_seconds: float = 0.0
    """How long the last completed scan took, with what it wrote."""
    completed_at: float = 0.0
    """End of the last completed scan, in epoch seconds of the server's clock; 0 before the first."""
    scans: int = 0
    examined: int = 0
    """Runs looked at."""
    repairs: int = 0
    """Findings in Redis that were repaired in place."""
    rebuilds: int = 0
    """How often the cache was built anew, the first time included."""
    changes: Counter[ChangeKind] = field(default_factory=Counter)

    def forget_scan(self) -> None:
        """Another refresher leads, or may have: the last scan is of the past."""
        self.jobs = self.errors = self.problems = self.held = 0
        self.scan_seconds = self.completed_at = 0.0

    def say(self, degraded: str) -> None:
        """Note why answers may be old or not whole, and log it when that changes."""
        if degraded == self.degraded:
            return
        if degraded:
            log.warning("degraded: %s", degraded)
        else:
            log.info("no longer degraded")
        self.degraded = degraded
