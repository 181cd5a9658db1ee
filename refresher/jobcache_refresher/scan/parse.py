"""From the bytes of a ``metadata.json`` to a job. Pure: no I/O, no clock."""

from __future__ import annotations

from datetime import tzinfo
from typing import Any

from jobcache import jsontext
from jobcache.models import JobStatus
from jobcache.schema.job import Description
from jobcache.times import parse_timestamp, to_epoch

MAX_CHIPS = 2**31 - 1

_STATUSES = {status.value: status for status in JobStatus}
_NO_CONFIG = jsontext.dumps({})


class UnparsableError(ValueError):
    """The bytes are no job: empty, cut, no JSON, no object, or nested too deep."""


def parse_metadata(raw: bytes, zone: tzinfo | None) -> Description:
    """Read a job as leniently as the producer writes it.

    The names that the document gives do not count, since the directory's do. A field of the wrong type reads as if it
    were absent, a number where text belongs as its digits, a status that no value names as ``unknown``.

    Args:
        raw: the file's bytes.
        zone: where naive timestamps were written; None for this machine's zone.

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
    return Description(
        _STATUSES.get(status, JobStatus.UNKNOWN) if isinstance(status, str) else JobStatus.UNKNOWN,
        _text(get("job_key")) or "",
        start_time,
        last_heartbeat,
        to_epoch(parse_timestamp(start_time, zone)),
        to_epoch(parse_timestamp(last_heartbeat, zone)),
        _text(get("slurm_job_id")),
        hardware["total_chips"],
        jsontext.dumps(hardware, plain=plain),
        jsontext.dumps(config, plain=plain) if isinstance(config, dict) else _NO_CONFIG,
    )


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
    chips, hosts = value.get("total_chips"), value.get("hosts")
    counts = isinstance(chips, int) and not isinstance(chips, bool) and 0 <= chips <= MAX_CHIPS
    return {
        "chip": _text(value.get("chip")),
        "total_chips": chips if counts else 0,
        "hosts": [host for host in hosts if isinstance(host, str)]
        if isinstance(hosts, list)
        else [],
    }
