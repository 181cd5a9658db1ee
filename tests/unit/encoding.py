"""A job's hash out of a model, for tests that begin with one."""

from __future__ import annotations

from jobcache import JobMetadata, jsontext
from jobcache.schema.job import JOB_FIELDS, Description, encode_description
from jobcache.times import to_epoch


def values_of(job: JobMetadata, *, log_scanned: int | None) -> list[bytes | None]:
    """The values of its hash, in the order in which readers ask for them."""
    described = Description(
        job.status,
        job.job_key,
        job.start_time,
        job.last_heartbeat,
        to_epoch(job.started_at),
        to_epoch(job.heartbeat_at),
        job.slurm_job_id,
        job.hardware.total_chips,
        jsontext.dumps(job.hardware.model_dump()),
        jsontext.dumps(job.config),
        job.status_text,
        jsontext.dumps(job.extra) if job.extra else b"",
    )
    scanned = None if log_scanned is None else b"%d" % log_scanned
    fields = encode_description(described, wandb_url=job.wandb_url, log_scanned=scanned)
    return [fields.get(name) for name in JOB_FIELDS]
