"""The models: durations, staleness, what a dump and a schema hold; and times."""

from __future__ import annotations

import json
import typing
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import JsonSchemaMode

import jobcache
from jobcache import Change, ChangeKind, JobId, JobMetadata, JobStatus
from jobcache.times import format_duration, from_epoch, parse_timestamp, read_timestamp, to_epoch


def job(**fields: object) -> JobMetadata:
    return JobMetadata.model_validate(
        {"name": "n", "project": "p", "group": "g", "run_id": "r", **fields}
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (9, "9s"),
        (59.9, "59s"),
        (60, "1m 0s"),
        (125, "2m 5s"),
        (3600, "1h 0m"),
        (16440, "4h 34m"),
    ]
    + [(360000, "100h 0m"), (-5, "0s")],
)
def test_format_duration_reads_as_people_say_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_job_that_ended_lasted_until_its_last_heartbeat() -> None:
    ended = job(
        start_time="2026-02-01T08:00:00", last_heartbeat="2026-02-01T12:34:56", status="completed"
    )
    assert ended.duration == "4h 34m"


def test_a_running_job_lasts_until_now() -> None:
    start = (datetime.now() - timedelta(minutes=2, seconds=5.5)).isoformat()
    running = job(start_time=start, last_heartbeat=start, status="running")
    assert running.duration == "2m 5s"


START = datetime(2026, 2, 1, 8, tzinfo=UTC)
BEAT = START + timedelta(hours=1)
SCAN = START + timedelta(hours=2)


@pytest.mark.parametrize(
    ("fields", "text", "seconds"),
    [
        ({"status": "running", "stale": False}, "2h 0m", 7200.0),
        ({"status": "running", "stale": True}, "1h 0m", 3600.0),
        ({"status": "completed"}, "1h 0m", 3600.0),
        ({"status": "unknown"}, "1h 0m", 3600.0),
        ({"status": "running", "stale": True, "heartbeat_at": None}, None, None),
        ({"status": "running", "stale": False, "started_at": None}, None, None),
        ({"status": "running", "stale": False, "as_of": START - timedelta(1)}, "0s", 0.0),
        ({"status": "failed", "heartbeat_at": START + timedelta(seconds=9.5)}, "9s", 9.5),
    ],
    ids=str,
)
def test_duration_in_an_answer_ends_at_the_scan_if_live_else_at_the_last_heartbeat(
    fields: dict[str, object], text: str | None, seconds: float | None
) -> None:
    answered = job(**{"started_at": START, "heartbeat_at": BEAT, "as_of": SCAN, **fields})
    assert (answered.duration, answered.duration_seconds) == (text, seconds)


def test_a_stale_job_of_no_answer_lasted_until_its_last_heartbeat() -> None:
    assert job(status="running", started_at=START, heartbeat_at=BEAT).duration == "1h 0m"


def test_dump_and_json_hold_what_follows_from_the_fields() -> None:
    answered = job(status="running", started_at=START, heartbeat_at=BEAT, as_of=SCAN, stale=False)
    expected = {
        "id": "p/g/n/r",
        "duration": "2h 0m",
        "duration_seconds": 7200.0,
        "is_stale": False,
    }
    assert expected.items() <= answered.model_dump().items()
    assert expected.items() <= json.loads(answered.model_dump_json()).items()
    assert "duration" not in repr(answered)


def test_model_that_was_dumped_comes_back() -> None:
    answered = job(status="running", started_at=START, as_of=SCAN, stale=False, config={"a": [1]})
    for again in (
        JobMetadata.model_validate(answered.model_dump()),
        JobMetadata.model_validate_json(answered.model_dump_json()),
    ):
        assert again == answered
        assert (again.duration, again.id) == ("2h 0m", answered.id)


def test_models_of_a_job_are_equal_as_of_whichever_scan() -> None:
    first = job(status="running", as_of=SCAN, stale=False)
    later = {"as_of": SCAN + timedelta(1)}
    assert first == first.model_copy(update=later)
    assert first != first.model_copy(update=later | {"stale": True})
    assert first != first.model_dump()
    assert first.as_of == SCAN


@pytest.mark.parametrize("kind", ["added", "resync"])
def test_change_that_was_dumped_comes_back(kind: str) -> None:
    named = None if kind == "resync" else JobId("p\uefff", "g", "n", "r")
    change = Change(kind=ChangeKind(kind), id=named, position="1-0")
    assert change.model_dump()["id"] == (None if named is None else "p\uefff/g/n/r")
    for again in (
        Change.model_validate(change.model_dump()),
        Change.model_validate_json(change.model_dump_json()),
        Change.model_validate({"kind": kind, "id": named, "position": "1-0"}),
    ):
        assert again == change
        assert isinstance(again.id, JobId) or again.id is None


@pytest.mark.parametrize("text", ["p/g/n", "p/g/n/r/s", "", 5])
def test_change_of_an_id_that_is_none_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        Change.model_validate({"kind": "added", "id": text, "position": "1-0"})


MODELS = [
    one for one in vars(jobcache).values() if isinstance(one, type) and issubclass(one, BaseModel)
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@pytest.mark.parametrize("mode", typing.get_args(JsonSchemaMode))
def test_schema_of_every_field_describes_it(model: type[BaseModel], mode: JsonSchemaMode) -> None:
    schema = model.model_json_schema(mode=mode)
    assert schema["description"]
    for name, field in schema["properties"].items():
        assert field.get("description", "").endswith("."), name


def test_openapi_of_an_application_shows_what_follows_from_the_fields() -> None:
    app = FastAPI()

    @app.get("/job")
    def show() -> JobMetadata:
        raise AssertionError

    shown = app.openapi()["components"]["schemas"]["JobMetadata"]["properties"]
    types = {name: shown[name].get("type") for name in ("id", "is_stale")}
    assert types == {"id": "string", "is_stale": "boolean"}
    assert shown.keys() == {*JobMetadata.model_fields, *JobMetadata.model_computed_fields}


@pytest.mark.parametrize("start", ["", "yesterday"])
def test_job_without_a_start_has_no_duration(start: str) -> None:
    assert (
        job(start_time=start, last_heartbeat="2026-02-01T12:34:56", status="failed").duration
        is None
    )


def test_job_of_no_answer_is_stale_by_this_clock() -> None:
    def beat(seconds: float) -> str:
        return (datetime.now() - timedelta(seconds=seconds)).isoformat()

    assert job(status="running", last_heartbeat=beat(310)).is_stale
    assert not job(status="running", last_heartbeat=beat(290)).is_stale
    assert not job(status="completed", last_heartbeat=beat(9999)).is_stale
    assert job(status="running", last_heartbeat="").is_stale
    assert not job(status="running", last_heartbeat=beat(9999), stale=False).is_stale


def test_statuses_read_as_strings() -> None:
    assert JobStatus("running") is JobStatus.RUNNING
    assert {"running": 1}[JobStatus.RUNNING] == 1
    assert job(status="running").model_dump(mode="json")["status"] == "running"


@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_time_as_a_score_comes_back(moment: datetime) -> None:
    assert from_epoch(to_epoch(moment)) == moment


MOMENT = datetime(2026, 2, 4, 9, 44, 35, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        *[("2026-02-04T09:44:35", 0), ("2026-02-04 09:44:35", 0), (" 2026-02-04T09:44:35\n", 0)],
        *[("2026-02-04T09:44:35Z", 0), ("2026-02-04t09:44:35z", 0), ("2026-02-04 09:44:35 UTC", 0)],
        *[("2026-02-04T09:44:35+00:00", 0), ("2026-02-04T10:44:35+0100", 0)],
        *[("2026-02-04T10:44:35+01", 0), ("2026-02-04 10:44:35 +01:00", 0)],
        *[("2026-02-04 09:44:35.5 +0000 UTC", 500_000), ("2026-02-04 10:44:35 +0100 CET", 0)],
        *[("20260204T094435", 0), ("20260204T094435Z", 0), ("20260204_094435", 0)],
        *[("2026-02-04T09:44:35.123456789Z", 123_456), ("2026-02-04T09:44:35,5", 500_000)],
        *[("1770198275", 0), ("1770198275.5", 500_000), (" 1770198275 ", 0), ("1.770198275e9", 0)],
        *[("1770198275123", 123_000), ("1770198275123.456", 123_456), ("1770198275.0", 0)],
        *[("1770198275123456", 123_456), ("1770198275123456000", 123_456)],
        *[("1.770198275E+12", 0), ("1.770198275E+18", 0)],
    ],
)
def test_parse_timestamp_in_each_form_is_the_same_moment(text: str, microseconds: int) -> None:
    assert parse_timestamp(text, ZoneInfo("UTC")) == MOMENT.replace(microsecond=microseconds)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_parse_timestamp_of_a_number_heeds_no_zone(zone: str) -> None:
    # Taken for a date and an hour, it would be one of the year 1712.
    expected = datetime(2024, 4, 2, 23, 21, 52, 345000, UTC)
    assert read_timestamp("1712100112345", ZoneInfo(zone)) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        *["", "x", "2026-13-01", "9999-12-31T23:59:59.999999-12:00", "0001-01-01T00:00:00+14:00"],
        *["0001-01-01T00:00:00Z", "0001-01-01T00:00:00", "1970-01-01T00:00:00Z", "0", "0.0", "5"],
        *[
            "-1",
            "-1770198275",
            "20260204094435",
            "1e400",
            "nan",
            "inf",
            "1_770_198_275",
            "1" * 5000,
        ],
        *[
            "2026-02-04 09:44:35 CET",
            "Z",
            " UTC",
            "\u0661\u0667\u0667\u0660\u0661\u0669\u0668\u0662\u0667\u0665",
        ],
    ],
)
def test_parse_timestamp_of_an_unreadable_text_is_none(text: str) -> None:
    assert parse_timestamp(text, ZoneInfo("UTC")) is None


def test_time_at_the_end_of_the_calendar_is_read() -> None:
    last = parse_timestamp("9999-12-31T23:59:59.999999", ZoneInfo("UTC"))
    assert from_epoch(to_epoch(last)) == last


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59.999999", "9999-12-31T00:00:00"])
def test_time_of_the_last_day_is_read_in_the_zone_of_this_machine(text: str) -> None:
    expected = datetime.fromisoformat(text).astimezone(UTC)
    assert read_timestamp(text) == [expected]
    assert parse_timestamp(text) == expected
