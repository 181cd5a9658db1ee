"""A job as the fields of its hash, and back."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobcache import HardwareInfo, JobId, JobMetadata, JobStatus
from jobcache.ids import decode_name
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
CLOCKED = {"is_stale", "duration", "duration_seconds"}
"""What goes by this process's clock outside of an answer."""


@given(job=JOBS)
def test_job_as_a_hash_loses_nothing(job: JobMetadata) -> None:
    assert JobId.from_path(job.id.path) == job.id
    again = parse_job(JobId.from_path(job.id.path), values_of(job, log_scanned=0))
    assert again is not None
    found = again.build(AsOf("/s", math.inf))
    assert found.metadata_path == f"/s/{again.path}/metadata.json"
    assert found.stale is (job.status is JobStatus.RUNNING)
    assert JobMetadata.model_validate(found.model_dump()) == found
    nothing = {"metadata_path": None, "log_path": None, "stale": None}
    names = {"project", "group", "name", "run_id", "id"}
    expected = shown_value(job.model_dump(exclude=names | CLOCKED))
    told = found.model_copy(update=nothing)
    assert told.model_dump(exclude=names | CLOCKED) == expected
    assert told.id == job.id
    assert JobMetadata.model_validate_json(found.model_dump_json()).id == job.id


def test_encode_description_of_an_ordinary_job_has_no_field_for_what_it_lacks() -> None:
    job = JobMetadata(name="n", project="p", group="g", run_id="r", status=JobStatus.RUNNING)
    present = dict(zip(JOB_FIELDS, values_of(job, log_scanned=None), strict=True))
    assert present[b"status_text"] is present[b"extra"] is None


def test_parse_job_of_a_hash_that_is_gone_is_none() -> None:
    assert parse_job(JobId("p", "g", "n", "r"), [None] * len(JOB_FIELDS)) is None
