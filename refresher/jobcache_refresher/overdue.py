"""When the next scan should be complete, and how readers are told. Without I/O."""

from __future__ import annotations

from collections import deque

from jobcache_refresher.clock import Clock

MISSED_SCANS = 3
"""Poll intervals, or times that the slowest of the last scans took, without a completed scan that make it overdue."""
LAST_SCANS = 10
LEAST_BOUND = 1.0
"""Seconds without a completed scan that are never too long, however short the poll interval is."""


class NextScan:
    """What this refresher expects of its own next scan. Readers judge by the same bound, which ``meta`` tells them.

    Args:
        poll_interval: seconds between two polls.
        clock: what time it is.
    """

    def __init__(self, poll_interval: float, clock: Clock) -> None:
        self._poll_interval = poll_interval
        self._clock = clock
        self._seconds: deque[float] = deque(maxlen=LAST_SCANS)
        self._due_by = float("inf")

    @property
    def bound(self) -> float:
        """Seconds without a completed scan, or a word of one under way, that are too long."""
        slowest = max(self._seconds, default=0.0)
        return max(
            MISSED_SCANS * self._poll_interval,
            self._poll_interval + MISSED_SCANS * slowest,
            LEAST_BOUND,
        )

    @property
    def is_overdue(self) -> bool:
        """Whether a scan should have completed by now, and did not tell how far it is."""
        return self._clock.monotonic() > self._due_by

    def note_duration(self, seconds: float) -> None:
        """A scan took so long."""
        self._seconds.append(seconds)

    def expect(self) -> None:
        """A scan completed, or one that is not overdue told how far it is: the next word is due within the bound."""
        self._due_by = self._clock.monotonic() + self.bound
