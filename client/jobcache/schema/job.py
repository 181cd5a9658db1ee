"""A job as the fields of its hash, and back without loss.

Readable with ``redis-cli``: scalars as plain text, ``config`` and ``hardware`` as JSON, nothing binary. What
the key's name says already (project, group, name, run id) and what follows from it (the paths) is not
written again: at 100,000 jobs those copies would cost more than the indexes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from jobcache import jsontext
from jobcache.ids import JobId, valid_text
from jobcache.lazy import assemble
from jobcache.models import HardwareInfo, JobMetadata, JobStatus
from jobcache.schema.index import IndexedFields, score
from jobcache.times import from_epoch

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
    b"status_text",
    b"extra",
)
"""Fields that a job is decoded from, in the order in which readers ask for them."""

REV = b"rev"
"""Generation in which the job was last written; set by the server."""
FINGERPRINT = b"fingerprint"
"""The file's (mtime_ns, ctime_ns, size, inode) when it was read, and how it was; for a refresher that starts anew."""
CHIPS = b"chips"
"""``hardware.total_chips`` of a running job, so that the server can keep a sum."""


RUNNING = JobStatus.RUNNING.value.encode()

PARSED_OVERHEAD = 1500
"""Bytes of memory that a parsed job takes beside its nested fields, about."""

_STATUSES = {status.value.encode(): status for status in JobStatus}
_STATUS_NAMES = {status: name for name, status in _STATUSES.items()}
# Shared by every model: whoever sets a field adds a name that is there already.
_JOB_FIELDS_SET = set(JobMetadata.model_fields)
_HARDWARE_FIELDS = set(HardwareInfo.model_fields)


class AsOf(NamedTuple):
    """From where a job is looked at: what an answer's header says about all of its jobs."""

    status_dir: str
    fresh_since: float
    """Epoch seconds of the oldest heartbeat that still counts as fresh."""
    completed_at: datetime | None = None
    """End of the last completed scan; a live run's duration goes up to it."""


class Description(NamedTuple):
    """What a job's hash says, but for its log. Times are epoch seconds, None when they cannot be read."""

    status: JobStatus
    job_key: str
    start_time: str
    last_heartbeat: str
    started_at: float | None
    heartbeat_at: float | None
    slurm_job_id: str | None
    total_chips: int
    hardware: bytes
    """As JSON, as are ``config`` and ``extra``."""
    config: bytes
    status_text: str | None = None
    """The status as it was written; None if that is the status itself."""
    extra: bytes = b""
    """Fields of the producer that are not ours; empty if there are none."""


def encode_description(
    job: Description, *, wandb_url: str | None = None, log_scanned: bytes | None = None
) -> dict[bytes, bytes]:
    """The fields of a job's hash; a field without a value is left out.

    ``log_scanned`` is how far the search for the W&B address in the log has come, or None when there is no log. Only
    refreshers read more of it than that.
    """
    fields = {
        b"status": _STATUS_NAMES[job.status],
        b"job_key": _encode_text(job.job_key),
        b"start_time": _encode_text(job.start_time),
        b"last_heartbeat": _encode_text(job.last_heartbeat),
        b"hardware": job.hardware,
        b"config": job.config,
    }
    if job.started_at is not None:
        fields[b"started_at"] = repr(job.started_at).encode()
    if job.heartbeat_at is not None:
        fields[b"heartbeat_at"] = repr(job.heartbeat_at).encode()
    if job.slurm_job_id is not None:
        fields[b"slurm_job_id"] = _encode_text(job.slurm_job_id)
    if job.status_text is not None:
        fields[b"status_text"] = _encode_text(job.status_text)
    if job.extra:
        fields[b"extra"] = job.extra
    if wandb_url is not None:
        fields[b"wandb_url"] = _encode_text(wandb_url)
    if log_scanned is not None:
        fields[b"log_scanned"] = log_scanned
    if job.status is JobStatus.RUNNING:
        fields[CHIPS] = b"%d" % job.total_chips
    return fields


class ParsedJob:
    """A job as it was parsed once. Every answer is built from it, and shares nothing that can be changed."""

    __slots__ = (
        "_config",
        "_extra",
        "_has_log",
        "_machine",
        "_status_dir",
        "_template",
        "beat",
        "is_running",
        "newest_first",
        "path",
        "size",
    )

    def __init__(self, job: JobId, values: Sequence[bytes | None]) -> None:
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
            status_text,
            extra,
        ) = values
        started = _decode_float(started_at)
        self.beat = _decode_float(heartbeat_at)
        """Last heartbeat in epoch seconds; None when it cannot be read."""
        self.is_running = status == RUNNING
        """Whether it says ``running``."""
        self.path = "/".join(job)
        """The id, as text."""
        self._has_log = log_scanned is not None
        self._machine = hardware or b"{}"
        self._config = config or b"{}"
        self._extra = extra or b"{}"
        self._status_dir: str | None = None
        self._template: dict[str, Any] = {
            "name": job.name,
            "project": job.project,
            "group": job.group,
            "job_key": _decode_text(job_key) or "",
            "run_id": job.run_id,
            "start_time": _decode_text(start_time) or "",
            "last_heartbeat": _decode_text(last_heartbeat) or "",
            "status": _STATUSES.get(status or b"", JobStatus.UNKNOWN),
            "status_text": _decode_text(status_text),
            "slurm_job_id": _decode_text(slurm_job_id),
            "log_path": None,
            "metadata_path": None,
            "wandb_url": _decode_text(wandb_url),
            "started_at": from_epoch(started),
            "heartbeat_at": from_epoch(self.beat),
            "stale": False,
            "as_of": None,
        }
        self.newest_first = score(started), job.path
        """What listings are sorted by, backwards."""
        self.size = PARSED_OVERHEAD + sum(map(len, self._nested()))
        """About how many bytes of memory it takes."""

    def build(self, as_of: AsOf) -> JobMetadata:
        """An answer: a model of its own, whose nested values are its own as well."""
        if as_of.status_dir != self._status_dir:
            self._look_from(as_of.status_dir)
        fields = self._template.copy()
        fields["as_of"] = as_of.completed_at
        if self.is_running:
            fields["stale"] = not self.is_fresh(as_of)
        return assemble(JobMetadata, fields, _JOB_FIELDS_SET, self)

    def make_rest(self) -> dict[str, Any]:
        """The nested values, new ones each time: an answer parses them when somebody looks at them."""
        machine = jsontext.loads_valid(self._machine)
        fields = {
            "chip": machine.get("chip"),
            "total_chips": machine.get("total_chips", 0),
            "hosts": machine.get("hosts", []),
        }
        return {
            "hardware": assemble(HardwareInfo, fields, _HARDWARE_FIELDS),
            "config": jsontext.loads_valid(self._config),
            "extra": jsontext.loads_valid(self._extra),
        }

    def rest_as_json(self) -> dict[str, bytes] | None:
        """The nested values as they were written; None where that is not JSON by the standard."""
        if any(text.startswith(b" ") for text in self._nested()):
            return None
        return {"hardware": self._machine, "config": self._config, "extra": self._extra}

    def _nested(self) -> tuple[bytes, bytes, bytes]:
        return self._machine, self._config, self._extra

    def is_fresh(self, as_of: AsOf) -> bool:
        """Whether its heartbeat is."""
        return self.beat is not None and self.beat >= as_of.fresh_since

    def _look_from(self, status_dir: str) -> None:
        directory = f"{status_dir}/{self.path}"
        paths = {"metadata_path": f"{directory}/{METADATA_NAME}"}
        if self._has_log:
            paths["log_path"] = f"{directory}/{LOG_NAME}"
        self._template = {**self._template, **paths}
        self._status_dir = status_dir


def parse_job(job: JobId, values: Sequence[bytes | None]) -> ParsedJob | None:
    """Parse the values of a hash, in the order of ``JOB_FIELDS``; None when the hash is gone."""
    return None if values[0] is None else ParsedJob(job, values)


def decode_indexed_fields(fields: Mapping[bytes, bytes]) -> IndexedFields:
    """What a job's index entries depend on, out of its hash.

    Raises:
        ValueError, KeyError: they are no fields of ours.
    """
    return IndexedFields(
        _STATUSES[fields[b"status"]],
        _decode_float(fields.get(b"started_at")),
        _decode_float(fields.get(b"heartbeat_at")),
    )


def _encode_text(text: str) -> bytes:
    # A string of a JSON document may hold any lone surrogate, so names' surrogateescape does not serve.
    return text.encode("utf-8", "surrogatepass")


def _decode_text(raw: bytes | None) -> str | None:
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return valid_text(raw.decode("utf-8", "surrogatepass"))


def _decode_float(raw: bytes | None) -> float | None:
    return None if raw is None else float(raw)
