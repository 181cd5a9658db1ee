"""A job as the fields of its hash, and back."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcache import HardwareInfo, JobId, JobMetadata, JobStatus, jsontext
from jobcache.ids import decode_name, decode_names, encode_name
from jobcache.schema.job import JOB_FIELDS, AsOf, parse_job
from tests.trees import shown_value
from tests.unit.encoding import values_of

TEXT = st.text(st.characters()) | st.sampled_from(["\ud800", "\udcff", "\udc80\ud800", "\0", "\n"])
NAME = st.binary(min_size=1, max_size=8).map(
    lambda raw: decode_name(raw.replace(b"/", b"_").replace(b"\0", b"0"))
)
TIMES = st.none() | st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)
JOBS = st.builds(
    JobMetadata,
    name=NAME,
    project=NAME,
    group=NAME,
    run_id=NAME,
    job_key=TEXT,
    start_time=TEXT,
    last_heartbeat=TEXT,
    status=st.sampled_from(JobStatus),
    slurm_job_id=st.none() | TEXT,
    hardware=st.builds(
        HardwareInfo, chip=st.none() | TEXT, total_chips=st.integers(0, 2**31), hosts=st.lists(TEXT)
    ),
    config=st.dictionaries(TEXT, JSON, max_size=3),
    status_text=st.none() | TEXT,
    extra=st.dictionaries(TEXT, JSON, max_size=3),
    wandb_url=st.none() | TEXT,
    started_at=TIMES,
    heartbeat_at=TIMES,
)


@given(job=JOBS)
def test_nothing_is_lost(job: JobMetadata) -> None:
    assert JobId.from_path(job.id.path) == job.id
    again = parse_job(JobId.from_path(job.id.path), values_of(job, log_scanned=0))
    assert again is not None
    found = again.build(AsOf("/s", math.inf))
    assert found.metadata_path == f"/s/{again.path}/metadata.json"
    assert found.stale is (job.status is JobStatus.RUNNING)
    nothing = {"metadata_path": None, "log_path": None, "stale": None}
    expected = shown_value(job.model_dump(exclude={"project", "group", "name", "run_id"}))
    told = found.model_copy(update=nothing)
    assert told.model_dump(exclude={"project", "group", "name", "run_id"}) == expected
    assert told.id == job.id
    assert JobMetadata.model_validate_json(found.model_dump_json()).id == job.id


def test_encode_description_of_an_ordinary_job_has_no_field_for_what_it_lacks() -> None:
    job = JobMetadata(name="n", project="p", group="g", run_id="r", status=JobStatus.RUNNING)
    present = dict(zip(JOB_FIELDS, values_of(job, log_scanned=None), strict=True))
    assert present[b"status_text"] is present[b"extra"] is None


@given(value=JSON)
def test_json_is_exact(value: Any) -> None:
    assert jsontext.loads(jsontext.dumps(value)) == value


@given(value=JSON | st.floats() | st.lists(st.floats() | st.integers(-(10**30), 10**30)))
def test_json_of_the_producer_is_read_and_written_exactly(value: Any) -> None:
    read, plain = jsontext.read(json.dumps(value).encode())
    again = jsontext.loads(jsontext.dumps(read, plain=plain))
    assert repr(read) == repr(again) == repr(value)


@pytest.mark.parametrize(
    "text",
    [
        "1e999",
        "-1e999",
        "1" * 400 + ".5",
        "18446744073709551616",
        "-9223372036854775809",
        "9223372036854775808",
        "[null,1e400]",
        '{"a":1,"a":null}',
        "0.1234567890123456789012",
        "-0.0",
    ],
)
def test_json_that_others_write_is_as_exact(text: str) -> None:
    read, plain = jsontext.read(text.encode())
    again = jsontext.loads(jsontext.dumps(read, plain=plain))
    assert repr(read) == repr(again) == repr(json.loads(text))


def test_json_of_the_producer() -> None:
    written = json.dumps({"a": math.nan, "b": math.inf, "c": 2**200, "d": "\ud83d\ude00\ud800"})
    value = jsontext.parse(written.encode())
    assert math.isnan(value["a"])
    assert (value["b"], value["c"], value["d"]) == (math.inf, 2**200, "\U0001f600\ud800")
    assert jsontext.loads(jsontext.dumps(value))["c"] == 2**200


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": math.nan, "b": [math.inf]}, b'{"a":null,"b":[null]}'),
        ({"a": "\udcff", "b": math.nan}, b'{"a":"\\udcff","b":null}'),
        ({"a": 2**64}, b'{"a":18446744073709551616}'),
    ],
)
def test_json_for_browsers_is_strict(value: Any, text: bytes) -> None:
    assert jsontext.dumps_for_web(value) == text


def test_a_hash_that_is_gone_is_no_job() -> None:
    assert parse_job(JobId("p", "g", "n", "r"), [None] * len(JOB_FIELDS)) is None


@given(st.lists(NAME.map(encode_name), max_size=5))
def test_names_in_one_piece_are_the_names(names: list[bytes]) -> None:
    assert decode_names(names) == [decode_name(name) for name in names]
