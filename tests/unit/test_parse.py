"""From bytes to a job."""

from __future__ import annotations

import json
from datetime import datetime
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
    [
        *[(8, 8), (0, 0), (8.0, 8), (1e1, 10), ("8", 8), (" 8\n", 8), ("8.0", 8), ("1e1", 10)],
        *[(-1, 0), (-0.0, 0), (2**31, 0), (10**400, 0), (1e300, 0), ("9" * 9999, 0), ("-8", 0)],
        *[(float("nan"), 0), (float("inf"), 0), ("nan", 0), ("inf", 0), ("", 0), ("8 GPUs", 0)],
        *[(True, 0), ("true", 0), (1.5, 0), ("1.5", 0), (None, 0), ([8], 0), ({"8": 8}, 0)],
    ],
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


BERLIN = ZoneInfo("Europe/Berlin")
"""The clock went back at 01:00 UTC on 25 October 2026: 02:00 to 03:00 came twice."""
FIRST = datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()
SECOND = FIRST + 3600
TWICE = "2026-10-25T02:30:00"


@pytest.mark.parametrize("late", [0.0, -1.5, 1.5, -1200.0, 1200.0])
@pytest.mark.parametrize("written", [FIRST, SECOND])
def test_a_heartbeat_from_the_hour_that_comes_twice(written: float, late: float) -> None:
    raw = json.dumps({"status": "running", "last_heartbeat": TWICE}).encode()
    assert parse_metadata(raw, BERLIN, written + late).heartbeat_at == written


@pytest.mark.parametrize(
    ("start", "beat", "mtime", "started_at"),
    [
        (TWICE, TWICE, FIRST, FIRST),
        (TWICE, TWICE, SECOND, SECOND),
        (TWICE, "2026-10-25T02:40:00", SECOND + 600, SECOND),
        # Started in the first of the two, as the second was not over yet.
        (TWICE, "2026-10-25T02:10:00", SECOND - 1200, FIRST),
        (TWICE, "nothing", SECOND - 1200, FIRST),
        (TWICE, "nothing", SECOND - 1, SECOND),
        # A producer's clock that is ahead of the filesystem's is ahead for both.
        (TWICE, "2026-10-25T02:31:00", SECOND - 600, SECOND),
        # Written in no hour that could tell.
        (TWICE, "nothing", 0.0, FIRST),
        (TWICE, TWICE, None, FIRST),
    ],
)
def test_a_start_from_the_hour_that_comes_twice(
    start: str, beat: str, mtime: float | None, started_at: float
) -> None:
    raw = json.dumps({"start_time": start, "last_heartbeat": beat}).encode()
    assert parse_metadata(raw, BERLIN, mtime).started_at == started_at


@pytest.mark.parametrize("mtime", [FIRST, SECOND])
def test_a_time_with_its_offset_is_what_it_says(mtime: float) -> None:
    raw = json.dumps({"last_heartbeat": TWICE + "+02:00", "start_time": TWICE + "+01:00"}).encode()
    job = parse_metadata(raw, BERLIN, mtime)
    assert (job.heartbeat_at, job.started_at) == (FIRST, SECOND)


def test_the_hour_that_never_was() -> None:
    raw = json.dumps({"last_heartbeat": "2026-03-29T02:30:00"}).encode()
    expected = datetime(2026, 3, 29, 1, 30, tzinfo=UTC).timestamp()
    assert parse_metadata(raw, BERLIN, expected - 3600).heartbeat_at == expected


def test_naive_times_are_read_in_the_zone() -> None:
    document = {"start_time": "2026-07-01T12:00:00", "last_heartbeat": "2026-07-01T12:00:00+00:00"}
    job = parse_metadata(json.dumps(document).encode(), ZoneInfo("Europe/Berlin"))
    assert job.started_at is not None
    assert job.heartbeat_at is not None
    assert job.heartbeat_at - job.started_at == 7200
