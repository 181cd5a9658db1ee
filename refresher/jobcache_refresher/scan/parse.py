"""From the bytes of a ``metadata.json`` to a job. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any

from jobcache import jsontext
from jobcache.models import JobStatus
from jobcache.schema.job import Description
from jobcache.times import read_timestamp

MAX_CHIPS = 2**31 - 1
LONGEST_COUNT = 32
"""Characters of a count that is written as text."""
SKEW = 60.0
"""Seconds by which the clocks of a producer and of the filesystem may differ."""

_STATUSES = {status.value: status for status in JobStatus}
_NO_CONFIG = jsontext.dumps({})


class UnparsableError(ValueError):
    """The bytes are no job: empty, cut, no JSON, no object, or nested too deep."""


def parse_metadata(raw: bytes, zone: tzinfo | None, mtime: float | None = None) -> Description:
    """Read a job as leniently as the producer writes it.

    The names that the document gives do not count, since the directory's do. A field of the wrong type reads as if it
    were absent, a number where text belongs as its digits, a status that no value names as ``unknown``.

    Args:
        raw: the file's bytes.
        zone: where naive timestamps were written; None for this machine's zone.
        mtime: when the file was written, in epoch seconds. It tells apart the two readings of a naive timestamp from
            the hour that comes twice when a clock is set back; without it the first of them counts.

    Raises:
        UnparsableError: there is no JSON object in it.
    """
    if not raw.strip():
        raise UnparsableError("empty")
    try:
        document, plain = jsontext.read(raw)
    except (ValueError, RecursionError) as error:
        raise UnparsableError(str(error)) from None
    if not isinstance(document, dict):
        raise UnparsableError(f"a JSON {type(document).__name__}, not an object")

    get = document.get
    status, config = get("status"), get("config")
    start_time = _text(get("start_time")) or ""
    last_heartbeat = _text(get("last_heartbeat")) or ""
    hardware = _hardware(get("hardware"))
    heartbeat_at = _heartbeat_at(_epochs(last_heartbeat, zone), mtime)
    started_at = _started_at(_epochs(start_time, zone), mtime, heartbeat_at)
    return Description(
        _STATUSES.get(status, JobStatus.UNKNOWN) if isinstance(status, str) else JobStatus.UNKNOWN,
        _text(get("job_key")) or "",
        start_time,
        last_heartbeat,
        started_at,
        heartbeat_at,
        _text(get("slurm_job_id")),
        hardware["total_chips"],
        jsontext.dumps(hardware, plain=plain),
        jsontext.dumps(config, plain=plain) if isinstance(config, dict) else _NO_CONFIG,
    )


def _epochs(text: str, zone: tzinfo | None) -> Sequence[float]:
    return [moment.timestamp() for moment in read_timestamp(text, zone)]


def _heartbeat_at(readings: Sequence[float], mtime: float | None) -> float | None:
    """The reading nearest to when the file was written: each heartbeat writes it."""
    if mtime is None or len(readings) < 2:
        return readings[0] if readings else None
    return min(readings, key=lambda reading: abs(reading - mtime))


def _started_at(
    readings: Sequence[float], mtime: float | None, heartbeat_at: float | None
) -> float | None:
    """The last reading that is no later than the last sign of life."""
    if mtime is None or len(readings) < 2:
        return readings[0] if readings else None
    latest = max(mtime + SKEW, heartbeat_at if heartbeat_at is not None else mtime)
    return max((reading for reading in readings if reading <= latest), default=readings[0])


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:  # more digits than Python converts
            return None
    return None


def _hardware(value: Any) -> dict[str, Any]:
    """The fields of ``HardwareInfo``."""
    if not isinstance(value, dict):
        value = {}
    hosts = value.get("hosts")
    return {
        "chip": _text(value.get("chip")),
        "total_chips": _count(value.get("total_chips")),
        "hosts": [host for host in hosts if isinstance(host, str)]
        if isinstance(hosts, list)
        else [],
    }


def _count(value: Any) -> int:
    """A whole number, also as a float or as text, as environments and YAML give it; 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0
    if isinstance(value, str) and len(value) > LONGEST_COUNT:
        return 0
    try:
        count = float(value)
    except (ValueError, OverflowError):
        return 0
    return int(count) if 0 <= count <= MAX_CHIPS and count.is_integer() else 0
