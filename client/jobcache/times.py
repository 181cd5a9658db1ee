"""Timestamps as the producer writes them, and durations as people read them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache

Clock = Callable[[], float]
"""Seconds on a clock; most callers mean the monotonic one."""


def parse_timestamp(text: str, zone: tzinfo | None = None) -> datetime | None:
    """Read a timestamp as an aware UTC time, or None when it is not one.

    It may be ISO 8601 in any of its forms, with a blank for the T, any number of digits of a second, and an offset or
    ``Z``; or seconds, milliseconds, microseconds or nanoseconds since 1970. A time before 1980 is none: so Go, .NET
    and C write that a time is not set.

    A naive timestamp (the producer writes ``datetime.now().isoformat()``) is read in ``zone``, which by
    default is this machine's. Of one from the hour that comes twice, the first reading counts.
    """
    return next(iter(read_timestamp(text, zone)), None)


def read_timestamp(text: str, zone: tzinfo | None = None) -> list[datetime]:
    """Every reading of a timestamp, as ``parse_timestamp`` reads it, the first in time first.

    When a clock is set back, an hour of local time comes twice: a naive timestamp of that hour has two readings.
    """
    try:
        moment = _moment(text)
        if moment.tzinfo is None and zone is not None:
            moment = moment.replace(tzinfo=zone)
        first = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return []
    if first < _EARLIEST:
        return []
    if not _sets_clocks(moment.date(), moment.tzinfo, time.tzname):
        return [first]
    second = moment.replace(fold=1).astimezone(UTC)
    # Where it is set forward, the two differ as well, the other way round: that hour never was.
    return [first, second] if first < second else [first]


@lru_cache(maxsize=1024)
def _sets_clocks(day: date, zone: tzinfo | None, names: tuple[str, str]) -> bool:
    """Whether clocks may be set forward or back on a day, in a zone or, for None, in this machine's (by its names)."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    try:
        offsets = {
            (midnight + timedelta(days=days)).astimezone(zone).utcoffset() for days in (-1, 0, 1, 2)
        }
    except (ValueError, OverflowError):  # the first or the last days of all
        return False
    return len(offsets) > 1


def _moment(text: str) -> datetime:
    if text[4:5] != "-" and (since := _since_1970(text)):
        return since
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        zoned = _ZONED.fullmatch(text.strip()) if len(text) <= _LONGEST else None
        if zoned is None:
            raise
        offset = zoned["offset"] or ""
        return datetime.fromisoformat(zoned["local"] + ("Z" if offset.isalpha() else offset))


def _since_1970(text: str) -> datetime | None:
    """The time that a number is; None when it is no number, or one of no time that can be meant, as 20260204."""
    if len(text) > _LONGEST or not _NUMBER.fullmatch(text.strip()):
        return None
    for units in _UNITS:
        seconds = float(text) / units
        if _FIRST_SECOND <= seconds < _LAST_SECOND:
            return datetime.fromtimestamp(seconds, UTC)
    return None


_EARLIEST = datetime(1980, 1, 1, tzinfo=UTC)
_FIRST_SECOND = _EARLIEST.timestamp()
_LAST_SECOND = 1e10
"""In the year 2286. Between the first second and this, the units of a number cannot be taken for one another."""
_UNITS = (1, 10**3, 10**6, 10**9)
"""Of a number since 1970, a second: seconds, milliseconds, microseconds, nanoseconds."""
_LONGEST = 64
"""Characters of a text that is looked at more closely."""
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE]\+?[0-9]{1,2})?")
_ZONED = re.compile(
    r"(?P<local>.*?[0-9])(?:\s*(?P<offset>[+-][0-9]{2}:?[0-9]{2}|Z|UTC|GMT)(?:\s+[A-Z]{1,5})?)?",
    re.IGNORECASE,
)
"""What ``fromisoformat`` does not take: blanks around it, one before the zone, a zone's name, and an offset that is
named as well."""


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
