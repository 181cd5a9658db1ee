"""Timestamps as the producer writes them, and durations as people read them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo

Clock = Callable[[], float]
"""Seconds on a clock; most callers mean the monotonic one."""


def parse_timestamp(text: str, zone: tzinfo | None = None) -> datetime | None:
    """Read an ISO 8601 timestamp as an aware UTC time, or None when it is not one.

    A naive timestamp (the producer writes ``datetime.now().isoformat()``) is read in ``zone``, which by
    default is this machine's. Of one from the hour that comes twice, the first reading counts.
    """
    return next(iter(read_timestamp(text, zone)), None)


def read_timestamp(text: str, zone: tzinfo | None = None) -> list[datetime]:
    """Every reading of a timestamp, as ``parse_timestamp`` reads it, the first in time first.

    When a clock is set back, an hour of local time comes twice: a naive timestamp of that hour has two readings.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None and zone is not None:
            moment = moment.replace(tzinfo=zone)
        first = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return []
    try:
        second = moment.replace(fold=1).astimezone(UTC)
    except (ValueError, OverflowError):  # a look at the day after the last of year 9999
        return [first]
    # Where it is set forward, the two differ as well, the other way round: that hour never was.
    return [first, second] if first < second else [first]


_LATEST = datetime.max.replace(tzinfo=UTC)


def from_epoch(seconds: float | None) -> datetime | None:
    """Turn epoch seconds into an aware UTC time."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError):  # the last microseconds of year 9999 round up
        return _LATEST


def to_epoch(moment: datetime | None) -> float | None:
    """Turn an aware time into epoch seconds."""
    return None if moment is None else moment.timestamp()


def format_duration(seconds: float) -> str:
    """Write a span of seconds as ``4h 34m``, ``2m 5s`` or ``9s``."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{hours}h {minutes}m"
    if minutes:
        return f"{minutes}m {secs}s"
    return f"{secs}s"
