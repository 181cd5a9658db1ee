"""From bytes to a job."""

from __future__ import annotations

import json
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from jobcache import JobStatus, jsontext
from jobcache.schema.job import Description
from jobcache_refresher.scan.parse import EXTRA_CAP, UnparsableError, parse_metadata
from jobcache_refresher.settings import Settings

UTC = ZoneInfo("UTC")
NOTHING: list[object] = [None, "", " ", True, [], {}, ["running"]]
"""Values that are no status."""


def parse(document: object, zone: ZoneInfo = UTC) -> Description:
    return parse_metadata(json.dumps(document).encode(), zone).job


@pytest.mark.parametrize("raw", [b"", b"\n ", b"{", b"[1]", b"1", b"nul", b'"x"', b"\xff"])
def test_what_is_no_job(raw: bytes) -> None:
    with pytest.raises(UnparsableError):
        parse_metadata(raw, UTC)


@pytest.mark.parametrize("depth", [191, 199, 200, 500, 100_000])
def test_nested_too_deep(depth: int) -> None:
    with pytest.raises(UnparsableError, match=r"nested|recursion"):
        parse_metadata(b'{"config":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}", UTC)


def test_nested_deep_enough() -> None:
    job = parse_metadata(b'{"config":' + b'{"a":' * 189 + b"1" + b"}" * 190, UTC).job
    assert job.config.count(b"{") == 189


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("running", JobStatus.RUNNING),
        ("preempted", JobStatus.PREEMPTED),
        ("unknown", JobStatus.UNKNOWN),
        ("running\n", JobStatus.RUNNING),
        *[(nothing, JobStatus.UNKNOWN) for nothing in NOTHING],
    ],
)
def test_a_status_that_is_none_other_is_not_kept_as_text(written: object, read: JobStatus) -> None:
    job = parse({"status": written})
    assert (job.status, job.status_text) == (read, None)


@pytest.mark.parametrize(
    ("written", "read", "text"),
    [
        ("RUNNING", JobStatus.RUNNING, "RUNNING"),
        ("TIMEOUT", JobStatus.FAILED, "TIMEOUT"),
        (" Succeeded ", JobStatus.COMPLETED, "Succeeded"),
        ("CANCELLED by 1000", JobStatus.UNKNOWN, "CANCELLED by 1000"),
        ("PENDING", JobStatus.UNKNOWN, "PENDING"),
        ("paused", JobStatus.UNKNOWN, "paused"),
        (0, JobStatus.UNKNOWN, "0"),
        ("failed" * 100_000, JobStatus.UNKNOWN, ("failed" * 100_000)[:200]),
    ],
)
def test_a_word_for_a_status_is_kept_as_it_was_written(
    written: object, read: JobStatus, text: str
) -> None:
    job = parse({"status": written})
    assert (job.status, job.status_text) == (read, text)


def test_words_of_the_operator_stand_beside_the_others() -> None:
    words = Settings.create(status_dir="/s", status_words="paused=preempted,killed=unknown").words()
    read = [
        parse_metadata(b'{"status":"%b"}' % word, UTC, words=words).job.status
        for word in (b"PAUSED", b"Killed", b"TIMEOUT", b"running")
    ]
    assert [status.value for status in read] == ["preempted", "unknown", "failed", "running"]


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
    job = parse_metadata(json.dumps({"hardware": {"total_chips": written}}).encode(), UTC).job
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
    job = parse_metadata(json.dumps(document).encode(), UTC).job
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
    assert parse_metadata(raw, BERLIN, written + late).job.heartbeat_at == written


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
    assert parse_metadata(raw, BERLIN, mtime).job.started_at == started_at


@pytest.mark.parametrize("mtime", [FIRST, SECOND])
def test_a_time_with_its_offset_is_what_it_says(mtime: float) -> None:
    raw = json.dumps({"last_heartbeat": TWICE + "+02:00", "start_time": TWICE + "+01:00"}).encode()
    job = parse_metadata(raw, BERLIN, mtime).job
    assert (job.heartbeat_at, job.started_at) == (FIRST, SECOND)


def test_the_hour_that_never_was() -> None:
    raw = json.dumps({"last_heartbeat": "2026-03-29T02:30:00"}).encode()
    expected = datetime(2026, 3, 29, 1, 30, tzinfo=UTC).timestamp()
    assert parse_metadata(raw, BERLIN, expected - 3600).job.heartbeat_at == expected


def test_naive_times_are_read_in_the_zone() -> None:
    document = {"start_time": "2026-07-01T12:00:00", "last_heartbeat": "2026-07-01T12:00:00+00:00"}
    job = parse_metadata(json.dumps(document).encode(), ZoneInfo("Europe/Berlin")).job
    assert job.started_at is not None
    assert job.heartbeat_at is not None
    assert job.heartbeat_at - job.started_at == 7200


EARLIER = datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp()
NOW = EARLIER + 600


@pytest.mark.parametrize(
    ("ahead", "mtime", "counts_as", "remark"),
    [
        # As far as clocks differ anyway, a time is believed.
        (-3600.0, NOW, NOW - 3600, None),
        (0.0, NOW, NOW, None),
        (60.0, NOW, NOW + 60, None),
        (60.0, EARLIER, NOW + 60, None),
        # Beyond that, the file's own time counts.
        (61.0, NOW, NOW, "last_heartbeat lies 1 min in the future"),
        (3600.0, EARLIER, EARLIER, "last_heartbeat lies 60 min in the future"),
        (3.6e8, EARLIER, EARLIER, "last_heartbeat lies 100000 h in the future"),
        # The filesystem's clock is ahead as well, or nobody knows it.
        (7200.0, NOW + 7200, NOW, "last_heartbeat lies 2 h in the future"),
        (7200.0, None, NOW, "last_heartbeat lies 2 h in the future"),
        # The filesystem's clock alone is wrong: nothing is made of it.
        (-5.0, NOW + 86400, NOW - 5, None),
        (-5.0, NOW - 86400, NOW - 5, None),
    ],
)
def test_a_heartbeat_from_the_future_counts_as_the_files_own_time(
    ahead: float, mtime: float | None, counts_as: float, remark: str | None
) -> None:
    raw = json.dumps({"status": "running", "last_heartbeat": NOW + ahead}).encode()
    parsed = parse_metadata(raw, UTC, mtime, now=NOW)
    assert (parsed.job.heartbeat_at, parsed.remark) == (counts_as, remark)
    assert parse_metadata(raw, UTC, mtime).job.heartbeat_at == NOW + ahead


def test_a_start_from_the_future_counts_as_the_files_own_time() -> None:
    raw = json.dumps({"start_time": NOW + 7200, "last_heartbeat": NOW + 10800}).encode()
    parsed = parse_metadata(raw, UTC, EARLIER, now=NOW)
    assert (parsed.job.started_at, parsed.job.heartbeat_at) == (EARLIER, EARLIER)
    assert parsed.remark == (
        "start_time lies 2 h in the future; last_heartbeat lies 3 h in the future"
    )


@pytest.mark.parametrize(
    "written", [EARLIER, EARLIER * 1000, EARLIER * 1e6, EARLIER * 1e9, f"{EARLIER:.0f}"]
)
def test_times_since_1970_are_read_whatever_their_units(written: object) -> None:
    job = parse({"start_time": written, "last_heartbeat": written})
    assert (job.started_at, job.heartbeat_at) == (EARLIER, EARLIER)
    assert job.start_time == f"{float(str(written)):.0f}"


@pytest.mark.parametrize(
    ("written", "text"),
    [(123, "123"), (123.0, "123"), (123.5, "123.5"), (True, None), (float("nan"), "nan")]
    + [("123_4", "123_4"), (1e300, "1e+300"), ([1], None)],
)
def test_a_number_where_text_belongs_is_its_digits(written: object, text: str | None) -> None:
    assert parse({"slurm_job_id": written}).slurm_job_id == text


@pytest.mark.parametrize(
    ("written", "hosts"),
    [
        (["a", "b"], ["a", "b"]),
        ("node[01-04]", ["node[01-04]"]),
        (["a", 1, 2.0, None, {"name": "b"}, True], ["a", "1", "2"]),
        (None, []),
        ({}, []),
        (True, []),
    ],
)
def test_hosts_are_texts(written: object, hosts: list[str]) -> None:
    assert json.loads(parse({"hardware": {"hosts": written}}).hardware)["hosts"] == hosts


DOCUMENT = {"status": "running", "config": {"t": "\u00fc"}, "hardware": {"total_chips": 8}}


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps(DOCUMENT, ensure_ascii=False).encode(encoding)
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
    ],
    ids=range(6),
)
def test_documents_of_any_unicode_encoding_are_read(raw: bytes) -> None:
    job = parse_metadata(raw, UTC).job
    assert (job.status, job.total_chips) == (JobStatus.RUNNING, 8)
    assert json.loads(job.config) == DOCUMENT["config"]


WHOLE = {
    **dict.fromkeys(
        ["name", "project", "group", "job_key", "run_id", "start_time", "slurm_job_id"]
    ),
    "last_heartbeat": "2026-07-01T12:00:00",
    "status": "running",
    "config": {"lr": 1},
    "hardware": {"chip": "h100", "total_chips": 8, "hosts": ["a"]},
}
"""Every field of ours, and no other."""


def test_an_ordinary_document_has_nothing_extra() -> None:
    assert parse(WHOLE).extra == b""
    assert parse({"hardware": [1], "config": "lr: 1"}).extra == b""


def test_other_fields_are_kept_as_they_are() -> None:
    others = {"host": "node1", "gpu_count": 8, "nested": {"a": [None, 1.5]}, "log_path": "/x"}
    hardware = {**WHOLE["hardware"], "gpu": "NVIDIA H100", "chips": 8}  # type: ignore[dict-item]
    parsed = parse_metadata(json.dumps({**WHOLE, **others, "hardware": hardware}).encode(), UTC)
    assert json.loads(parsed.job.extra) == {
        **others,
        "hardware": {"gpu": "NVIDIA H100", "chips": 8},
    }
    assert parsed.remark is None
    assert json.loads(parsed.job.hardware) == WHOLE["hardware"]


@pytest.mark.parametrize("written", ["1e999", "NaN", '"\\ud800"', "1" * 30])
def test_other_fields_are_kept_exactly(written: str) -> None:
    extra = parse_metadata(b'{"x":%b}' % written.encode(), UTC).job.extra
    assert repr(jsontext.loads(extra)) == repr({"x": json.loads(written)})


def test_of_too_many_other_fields_the_largest_are_left_out() -> None:
    others = {
        "huge": "x" * EXTRA_CAP,
        "small": 1,
        "large": ["y"] * (EXTRA_CAP // 5),
        "medium": "z" * 4000,
    }
    raw = json.dumps({**WHOLE, **others, "last_heartbeat": NOW + 7200}).encode()
    parsed = parse_metadata(raw, UTC, now=NOW)
    assert json.loads(parsed.job.extra) == {"small": 1, "medium": others["medium"]}
    assert parsed.remark == (
        "last_heartbeat lies 2 h in the future; "
        f"2 of 4 further fields are left out, beyond {EXTRA_CAP} bytes"
    )


@pytest.mark.parametrize("size", [EXTRA_CAP - len('{"x":""}'), EXTRA_CAP - len('{"x":""}') + 1])
def test_extra_is_whole_up_to_its_cap(size: int) -> None:
    extra = parse({"x": "a" * size}).extra
    assert len(extra) == (EXTRA_CAP if size + len('{"x":""}') <= EXTRA_CAP else 0)
