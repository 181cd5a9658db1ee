"""From bytes to a job."""

from __future__ import annotations

import json
from zoneinfo import ZoneInfo

import pytest

from jobcache import JobStatus
from jobcache.schema.job import Description
from jobcache_refresher.scan.parse import UnparsableError, parse_metadata

UTC = ZoneInfo("UTC")


def parse(document: object, zone: ZoneInfo = UTC) -> Description:
    return parse_metadata(json.dumps(document).encode(), zone)


@pytest.mark.parametrize("raw", [b"", b"\n ", b"{", b"[1]", b"1", b"nul", b'"x"', b"\xff"])
def test_what_is_no_job(raw: bytes) -> None:
    with pytest.raises(UnparsableError):
        parse_metadata(raw, UTC)


@pytest.mark.parametrize("depth", [101, 150, 199, 500, 100_000])
def test_nested_too_deep(depth: int) -> None:
    with pytest.raises(UnparsableError, match=r"nested|recursion"):
        parse_metadata(b'{"config":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}", UTC)


def test_nested_deep_enough() -> None:
    job = parse_metadata(b'{"config":' + b'{"a":' * 90 + b"1" + b"}" * 91, UTC)
    assert job.config.count(b"{") == 90


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("running", JobStatus.RUNNING),
        ("preempted", JobStatus.PREEMPTED),
        ("RUNNING", JobStatus.UNKNOWN),
        ("paused", JobStatus.UNKNOWN),
        (None, JobStatus.UNKNOWN),
        ([], JobStatus.UNKNOWN),
        ({}, JobStatus.UNKNOWN),
    ],
)
def test_statuses(written: object, read: JobStatus) -> None:
    job = parse_metadata(json.dumps({"status": written}).encode(), UTC)
    assert job.status is read


@pytest.mark.parametrize(
    ("written", "chips"),
    [(8, 8), (0, 0), (-1, 0), (2**31, 0), (10**400, 0), ("8", 0), (True, 0), (1.5, 0), (None, 0)],
)
def test_chips(written: object, chips: int) -> None:
    job = parse_metadata(json.dumps({"hardware": {"total_chips": written}}).encode(), UTC)
    assert job.total_chips == chips
    assert json.loads(job.hardware)["total_chips"] == chips


def test_wrong_types_read_as_absent() -> None:
    document = {
        "start_time": 5,
        "last_heartbeat": [],
        "config": [],
        "hardware": 1,
        "slurm_job_id": 77,
    }
    job = parse_metadata(json.dumps(document).encode(), UTC)
    assert (job.start_time, job.last_heartbeat, job.config) == ("5", "", b"{}")
    assert job.slurm_job_id == "77"
    assert job.started_at is None


def test_naive_times_are_read_in_the_zone() -> None:
    document = {"start_time": "2026-07-01T12:00:00", "last_heartbeat": "2026-07-01T12:00:00+00:00"}
    job = parse_metadata(json.dumps(document).encode(), ZoneInfo("Europe/Berlin"))
    assert job.started_at is not None
    assert job.heartbeat_at is not None
    assert job.heartbeat_at - job.started_at == 7200
