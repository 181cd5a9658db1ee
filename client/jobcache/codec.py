"""A job as the fields of its hash, and back without loss.

Readable with ``redis-cli``: scalars as plain text, ``config`` and ``hardware`` as JSON, nothing binary. What
the key's name says already (project, group, name, run id) and what follows from it (the paths) is not
written again: at 100,000 jobs those copies would cost more than the indexes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobcache import jsontext
from jobcache.ids import JobId
from jobcache.index import Standing
from jobcache.models import HardwareInfo, JobMetadata, JobStatus
from jobcache.times import from_epoch, to_epoch

METADATA_NAME = "metadata.json"
LOG_NAME = "output.log"

JOB_FIELDS = (
    b"status",
    b"job_key",
    b"start_time",
    b"last_heartbeat",
    b"started_at",
    b"heartbeat_at",
    b"slurm_job_id",
    b"hardware",
    b"config",
    b"wandb_url",
    b"log_scanned",
)
"""Fields that a job is decoded from, in the order in which readers ask for them."""

REV = b"rev"
"""Generation in which the job was last written; set by the server."""
FINGERPRINT = b"fingerprint"
"""The file's (mtime_ns, ctime_ns, size, inode) when it was read; for a refresher that starts anew."""
CHIPS = b"chips"
"""``hardware.total_chips`` of a running job, so that the server can keep a sum."""


@dataclass(frozen=True, slots=True)
class Vantage:
    """From where a job is looked at: what an answer's header says about all of its jobs."""

    status_dir: str
    fresh_since: float
    """Epoch seconds of the oldest heartbeat that still counts as fresh."""


def encode_job(job: JobMetadata, *, log_scanned: int | None) -> dict[bytes, bytes]:
    """The fields of a job's hash; a field without a value is left out.

    ``log_scanned`` is how many bytes of the log were searched for the W&B address, or None when
    there is no log.
    """
    fields = {
        b"status": job.status.value.encode(),
        b"job_key": _encode_text(job.job_key),
        b"start_time": _encode_text(job.start_time),
        b"last_heartbeat": _encode_text(job.last_heartbeat),
        b"hardware": jsontext.dumps(job.hardware.model_dump()),
        b"config": jsontext.dumps(job.config),
    }
    if job.started_at is not None:
        fields[b"started_at"] = repr(to_epoch(job.started_at)).encode()
    if job.heartbeat_at is not None:
        fields[b"heartbeat_at"] = repr(to_epoch(job.heartbeat_at)).encode()
    if job.slurm_job_id is not None:
        fields[b"slurm_job_id"] = _encode_text(job.slurm_job_id)
    if job.wandb_url is not None:
        fields[b"wandb_url"] = _encode_text(job.wandb_url)
    if log_scanned is not None:
        fields[b"log_scanned"] = b"%d" % log_scanned
    if job.status is JobStatus.RUNNING:
        fields[CHIPS] = b"%d" % job.hardware.total_chips
    return fields


def decode_job(
    job: JobId, values: Sequence[bytes | None], vantage: Vantage | None
) -> JobMetadata | None:
    """Build the job from its values in the order of ``JOB_FIELDS``; None when the hash is gone."""
    (
        status,
        job_key,
        start_time,
        last_heartbeat,
        started_at,
        heartbeat_at,
        slurm_job_id,
        hardware,
        config,
        wandb_url,
        log_scanned,
    ) = values
    if status is None:
        return None
    job_status = JobStatus(status.decode())
    beat = _decode_float(heartbeat_at)
    directory = f"{vantage.status_dir}/{'/'.join(job)}" if vantage else None
    return JobMetadata.model_construct(
        name=job.name,
        project=job.project,
        group=job.group,
        job_key=_decode_text(job_key) or "",
        run_id=job.run_id,
        start_time=_decode_text(start_time) or "",
        last_heartbeat=_decode_text(last_heartbeat) or "",
        status=job_status,
        slurm_job_id=_decode_text(slurm_job_id),
        hardware=HardwareInfo.model_construct(**jsontext.loads(hardware or b"{}")),
        config=jsontext.loads(config or b"{}"),
        log_path=f"{directory}/{LOG_NAME}" if directory and log_scanned is not None else None,
        metadata_path=f"{directory}/{METADATA_NAME}" if directory else None,
        wandb_url=_decode_text(wandb_url),
        started_at=from_epoch(_decode_float(started_at)),
        heartbeat_at=from_epoch(beat),
        stale=_is_stale(job_status, beat, vantage),
    )


def decode_standing(fields: Mapping[bytes, bytes]) -> Standing:
    """What a job's index entries depend on, out of its hash."""
    return Standing(
        JobStatus(fields[b"status"].decode()),
        _decode_float(fields.get(b"started_at")),
        _decode_float(fields.get(b"heartbeat_at")),
    )


def _is_stale(status: JobStatus, beat: float | None, vantage: Vantage | None) -> bool | None:
    if vantage is None:
        return None
    return status is JobStatus.RUNNING and (beat is None or beat < vantage.fresh_since)


def _encode_text(text: str) -> bytes:
    # A string of a JSON document may hold any lone surrogate, so names' surrogateescape does not serve.
    return text.encode("utf-8", "surrogatepass")


def _decode_text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "surrogatepass")


def _decode_float(raw: bytes | None) -> float | None:
    return None if raw is None else float(raw)
