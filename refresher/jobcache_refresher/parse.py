"""From the bytes of a ``metadata.json`` to a job. Pure: no I/O, no clock."""

from __future__ import annotations

from datetime import tzinfo
from typing import Any

from jobcache import jsontext
from jobcache.ids import JobId
from jobcache.models import HardwareInfo, JobMetadata, JobStatus
from jobcache.times import parse_timestamp

MAX_CHIPS = 2**31 - 1


class UnparsableError(ValueError):
    """The bytes are no job: empty, cut, no JSON, no object, or nested too deep."""


def parse_metadata(raw: bytes, job: JobId, zone: tzinfo | None) -> JobMetadata:
    """Read a job as leniently as the producer writes it.

    Names are the directory's, whatever the document says. A field of the wrong type reads as if it were absent, a
    number where text belongs as its digits, a status that no value names as ``unknown``.

    Args:
        raw: the file's bytes.
        job: the directory the file lies in.
        zone: where naive timestamps were written; None for this machine's zone.

    Raises:
        UnparsableError: there is no JSON object in it.
    """
    if not raw.strip():
        raise UnparsableError("empty")
    try:
        document = jsontext.parse(raw)
    except (ValueError, RecursionError) as error:
        raise UnparsableError(str(error)) from None
    if not isinstance(document, dict):
        raise UnparsableError(f"a JSON {type(document).__name__}, not an object")

    start_time = _text(document.get("start_time")) or ""
    last_heartbeat = _text(document.get("last_heartbeat")) or ""
    config = document.get("config")
    return JobMetadata.model_construct(
        name=job.name,
        project=job.project,
        group=job.group,
        job_key=_text(document.get("job_key")) or "",
        run_id=job.run_id,
        start_time=start_time,
        last_heartbeat=last_heartbeat,
        status=_status(document.get("status")),
        slurm_job_id=_text(document.get("slurm_job_id")),
        hardware=_hardware(document.get("hardware")),
        config=config if isinstance(config, dict) else {},
        log_path=None,
        metadata_path=None,
        wandb_url=None,
        started_at=parse_timestamp(start_time, zone),
        heartbeat_at=parse_timestamp(last_heartbeat, zone),
        stale=None,
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


def _status(value: Any) -> JobStatus:
    try:
        return JobStatus(value)
    except ValueError:
        return JobStatus.UNKNOWN


def _hardware(value: Any) -> HardwareInfo:
    if not isinstance(value, dict):
        return HardwareInfo()
    chips, hosts = value.get("total_chips"), value.get("hosts")
    counts = isinstance(chips, int) and not isinstance(chips, bool) and 0 <= chips <= MAX_CHIPS
    return HardwareInfo.model_construct(
        chip=_text(value.get("chip")),
        total_chips=chips if counts else 0,
        hosts=[host for host in hosts if isinstance(host, str)] if isinstance(hosts, list) else [],
    )
