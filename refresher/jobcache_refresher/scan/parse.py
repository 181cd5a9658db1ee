"""From the bytes of a ``metadata.json`` to a job. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any, NamedTuple

from jobcache import jsontext
from jobcache.models import JobStatus
from jobcache.schema.job import Description
from jobcache.times import read_timestamp
from jobcache_refresher.status_words import STATUS_WORDS, status_of

PARSER_VERSION = 1
"""Grows when the same bytes read otherwise than before, so that every run is read again."""

MAX_CHIPS = 2**31 - 1
LONGEST_COUNT = 32
"""Characters of a count that is written as text."""
LONGEST_STATUS = 200
"""Characters of a status that are kept."""
EXTRA_CAP = 16 << 10
"""Bytes of JSON that are kept of the fields that no field of ours names."""
SKEW = 60.0
"""Seconds by which the clocks of a producer and of the filesystem may differ."""

_NO_CONFIG = jsontext.dumps({})
_OURS = frozenset(
    [
        *("name", "project", "group", "job_key", "run_id", "start_time", "last_heartbeat"),
        *("status", "slurm_job_id", "hardware", "config"),
    ]
)
_OUR_HARDWARE = frozenset({"chip", "total_chips", "hosts"})


class UnparsableError(ValueError):
    """The bytes are no job: empty, cut, no JSON, no object, or nested too deep."""


class Parsed(NamedTuple):
    """A job, and what an operator should know of how its file reads."""

    job: Description
    remark: str | None
    """What was not taken as it is written, in one line; None if all was."""


def parse_metadata(
    raw: bytes,
    zone: tzinfo | None,
    mtime: float | None = None,
    *,
    now: float | None = None,
    words: Mapping[str, JobStatus] = STATUS_WORDS,
) -> Parsed:
    """Read a job as leniently as producers write it.

    The names that the document gives do not count, since the directory's do. A field of the wrong type reads as if it
    were absent, a number where text belongs as its digits, a status that no word names as ``unknown``. Fields that are
    not ours are kept in ``extra``; those of ``hardware`` stand there under that name, which no other field can bear.

    Args:
        raw: the file's bytes.
        zone: where naive timestamps were written; None for this machine's zone.
        mtime: when the file was written, in epoch seconds. It tells apart the two readings of a naive timestamp from
            the hour that comes twice when a clock is set back; without it the first of them counts.
        now: what time it is, in epoch seconds. A time that lies further ahead than clocks differ counts as
            that of the file, and at most as now; without ``now``, as it is written.
        words: the status of each word, as ``status_words.plain`` makes it.

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
    written, config = (_text(get("status")) or "").strip()[:LONGEST_STATUS], get("config")
    status = status_of(written, words)
    start_time = _text(get("start_time")) or ""
    last_heartbeat = _text(get("last_heartbeat")) or ""
    hardware = _hardware(get("hardware"))
    heartbeat_at = _heartbeat_at(_epochs(last_heartbeat, zone), mtime)
    started_at = _started_at(_epochs(start_time, zone), mtime, heartbeat_at)
    started_at, starts_early = _judge("start_time", started_at, mtime, now)
    heartbeat_at, beats_early = _judge("last_heartbeat", heartbeat_at, mtime, now)
    extra, left_out = _extra(document, plain)
    job = Description(
        status,
        _text(get("job_key")) or "",
        start_time,
        last_heartbeat,
        started_at,
        heartbeat_at,
        _text(get("slurm_job_id")),
        hardware["total_chips"],
        jsontext.dumps(hardware, plain=plain),
        jsontext.dumps(config, plain=plain) if isinstance(config, dict) else _NO_CONFIG,
        None if written in {status.value, ""} else written,
        extra,
    )
    return Parsed(job, "; ".join(filter(None, (starts_early, beats_early, left_out))) or None)


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


def _judge(
    name: str, moment: float | None, mtime: float | None, now: float | None
) -> tuple[float | None, str | None]:
    """A time as it counts, and what to say if that is not as it is written."""
    if moment is None or now is None or moment <= now + SKEW:
        return moment, None
    seconds = moment - now
    span = f"{seconds / 3600:.0f} h" if seconds >= 7200 else f"{seconds / 60:.0f} min"
    return now if mtime is None else min(mtime, now), f"{name} lies {span} in the future"


def _extra(document: dict[str, Any], plain: bool) -> tuple[bytes, str | None]:
    """The fields that are not ours as JSON, empty for none; and what to say if some are left out."""
    fields = _others(document, _OURS)
    if isinstance(hardware := document.get("hardware"), dict) and (
        others := _others(hardware, _OUR_HARDWARE)
    ):
        fields["hardware"] = others
    if not fields:
        return b"", None
    text = jsontext.dumps(fields, plain=plain)
    if len(text) <= EXTRA_CAP:
        return text, None
    # The largest go first: what is short is what people look for.
    sizes = {name: len(jsontext.dumps({name: value})) for name, value in fields.items()}
    largest_last = sorted(sizes, key=sizes.__getitem__)
    size = sum(sizes.values())
    while size > EXTRA_CAP:
        name = largest_last.pop()
        del fields[name]
        size -= sizes[name]
    left_out = len(sizes) - len(fields)
    remark = f"{left_out} of {len(sizes)} further fields are left out, beyond {EXTRA_CAP} bytes"
    return jsontext.dumps(fields) if fields else b"", remark


def _others(document: dict[str, Any], ours: frozenset[str]) -> dict[str, Any]:
    if document.keys() <= ours:
        return {}
    return {name: value for name, value in document.items() if name not in ours}


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
            value = int(value)
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
    texts = map(_text, hosts if isinstance(hosts, list) else [hosts])
    return {
        "chip": _text(value.get("chip")),
        "total_chips": _count(value.get("total_chips")),
        "hosts": [host for host in texts if host is not None],
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
