"""The models of an answer: like any others, though their costly fields are made when somebody looks."""

from __future__ import annotations

import copy
import json
import math
import pickle
import typing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from jobcache import HardwareInfo, JobId, JobMetadata, JobStatus, jsontext
from jobcache.schema.job import AsOf, ParsedJob
from jobcache.web.answers import show_job
from tests.unit.encoding import values_of

JOB = JobMetadata(
    name="n",
    project="p",
    group="g",
    run_id="r",
    status=JobStatus.RUNNING,
    config={"a": [1, {"b": 2}]},
    extra={"gpu_count": 8},
    hardware=HardwareInfo(chip="h100", total_chips=8, hosts=["x"]),
)
AS_OF = AsOf("/s", 0.0, datetime(2026, 2, 4, tzinfo=UTC))
COMPUTED = {"id", "duration", "duration_seconds", "is_stale"}


def parsed(job: JobMetadata = JOB, log_scanned: int | None = 1) -> ParsedJob:
    return ParsedJob(job.id, values_of(job, log_scanned=log_scanned))


@pytest.fixture
def made() -> JobMetadata:
    """An answer whose costly fields nobody has looked at."""
    return parsed().build(AS_OF)


@pytest.fixture
def plain() -> JobMetadata:
    """The same, as pydantic makes it."""
    paths = {"log_path": "/s/p/g/n/r/output.log", "metadata_path": "/s/p/g/n/r/metadata.json"}
    return JobMetadata.model_validate(
        {**JOB.model_dump(), **paths, "stale": True, "as_of": AS_OF.completed_at}
    )


class Wrapper(BaseModel):
    job: JobMetadata


class Excerpt(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    name: str
    config: dict[str, Any]


WAYS_TO_LOOK: dict[str, Callable[[JobMetadata], Any]] = {
    "model_dump": lambda job: job.model_dump(),
    "model_dump(include)": lambda job: job.model_dump(include={"name", "config"}),
    "model_dump(exclude)": lambda job: job.model_dump(exclude={"config"}),
    "model_dump_json": lambda job: job.model_dump_json(),
    "a list of them as JSON": lambda job: TypeAdapter(list[JobMetadata]).dump_json([job]),
    "in another model": lambda job: Wrapper(job=job).model_dump_json(),
    "validated": lambda job: JobMetadata.model_validate(job).model_dump(),
    "read by attribute": lambda job: Excerpt.model_validate(job),
    "repr": repr,
    "str": str,
    "vars": lambda job: dict(vars(job)),
    "dict": dict,
    "keys in order": lambda job: list(job.model_dump()),
    "copy": lambda job: copy.copy(job).__dict__,
    "deepcopy": lambda job: copy.deepcopy(job).__dict__,
    "model_copy": lambda job: job.model_copy(update={"name": "m"}).__dict__,
    "pickle": lambda job: pickle.loads(pickle.dumps(job)).__dict__,
    "config": lambda job: job.config,
    "hardware": lambda job: job.hardware,
    "getattr": lambda job: getattr(job, "config", None),
    "hasattr": lambda job: (hasattr(job, "config"), hasattr(job, "conf")),
    "properties": lambda job: (job.id, job.is_stale, job.duration, job.duration_seconds),
    "fields set": lambda job: job.model_fields_set == set(JobMetadata.model_fields),
}


@pytest.mark.parametrize("look", WAYS_TO_LOOK.values(), ids=WAYS_TO_LOOK)
def test_model_however_looked_at_equals_the_plain_one(
    made: JobMetadata, plain: JobMetadata, look: Callable[[JobMetadata], Any]
) -> None:
    assert look(made) == look(plain)
    assert made == plain
    assert plain == made


def test_models_that_nobody_looked_at_compare_by_their_fields(plain: JobMetadata) -> None:
    assert parsed().build(AS_OF) == parsed().build(AS_OF)
    assert plain == parsed().build(AS_OF)
    assert parsed().build(AS_OF) != plain.model_copy(update={"config": {}})


def test_config_is_parsed_only_when_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    loads = jsontext.loads

    def note_and_load(text: bytes) -> Any:
        read.append(text)
        return loads(text)

    monkeypatch.setattr(jsontext, "loads", note_and_load)
    made = parsed().build(AS_OF)
    assert (made.name, made.is_stale, made.metadata_path) == ("n", True, "/s/p/g/n/r/metadata.json")
    assert not read
    assert made.config == JOB.config
    assert made.config is made.config
    assert len(read) == 3  # the hardware and the further fields as well


def test_field_that_was_set_before_anyone_looked_counts(made: JobMetadata) -> None:
    made.config = {"mine": 1}
    made.name = "other"
    assert made.hardware == JOB.hardware
    assert made.model_dump()["config"] == {"mine": 1}
    assert json.loads(made.model_dump_json())["name"] == "other"
    del made.config
    with pytest.raises(AttributeError, match="config"):
        _ = made.config


def test_field_that_was_deleted_before_anyone_looked_is_gone(made: JobMetadata) -> None:
    del made.config
    assert not hasattr(made, "config")
    assert made.hardware == JOB.hardware


def test_model_has_no_attribute_that_the_plain_one_lacks(made: JobMetadata) -> None:
    with pytest.raises(AttributeError, match="no attribute 'konfig'"):
        _ = made.konfig  # type: ignore[attr-defined]


def test_models_of_one_job_share_nothing_that_can_change() -> None:
    job = parsed()
    first, second = job.build(AS_OF), job.build(AS_OF)
    first.config["a"][1]["b"] = 3
    first.hardware.hosts.append("y")
    first.name = "other"
    assert second == job.build(AS_OF)
    assert second.config == JOB.config
    assert second.hardware == JOB.hardware


def test_model_that_many_threads_look_at_is_whole_for_each() -> None:
    with ThreadPoolExecutor(8) as pool:
        for _ in range(50):
            made = parsed().build(AS_OF)
            assert all(pool.map(lambda _, job=made: job.config == JOB.config, range(8)))


def test_model_schema_is_that_of_the_plain_one() -> None:
    fields, computed = list(JobMetadata.model_fields), list(JobMetadata.model_computed_fields)
    assert set(computed) == COMPUTED
    for mode in typing.get_args(JsonSchemaMode):
        properties = JobMetadata.model_json_schema(mode=mode)["properties"]
        assert list(properties) == fields + (computed if mode == "serialization" else [])


def test_job_without_a_log_has_no_log_path() -> None:
    assert parsed(log_scanned=None).build(AS_OF).log_path is None


def test_job_of_another_status_directory_has_its_paths() -> None:
    job = parsed()
    assert job.build(AS_OF).metadata_path == "/s/p/g/n/r/metadata.json"
    moved = job.build(AsOf("/t", 0.0))
    assert (moved.metadata_path, moved.log_path) == (
        "/t/p/g/n/r/metadata.json",
        "/t/p/g/n/r/output.log",
    )


@pytest.mark.parametrize("since", [0.0, float("-inf")])
def test_a_running_job_without_a_readable_heartbeat_is_stale(since: float) -> None:
    assert parsed().build(AsOf("/s", since)).is_stale


def test_a_job_that_ended_is_not_stale() -> None:
    ended = JOB.model_copy(update={"status": JobStatus.FAILED})
    assert parsed(ended).build(AS_OF).stale is False


def test_job_id_of_any_bytes_survives() -> None:
    job = JobId("\udcff", "g", "n\n", "r")
    made = ParsedJob(job, values_of(JOB, log_scanned=None)).build(AS_OF)
    assert made.id == job
    assert made.metadata_path == "/s/\udcff/g/n\n/r/metadata.json"


@pytest.mark.parametrize(
    "config",
    [
        {"a": [1, {"b": None}], "t": "\u00fc"},
        {"nan": math.nan},
        {"lone": "\ud800"},
        {"big": 2**70},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["n", "\udcff"], ids=["a name", "a name that is no UTF-8"])
@pytest.mark.parametrize("field", ["config", "extra"])
def test_web_json_is_the_same_whether_anyone_looked_or_not(
    config: dict[str, Any], name: str, field: str
) -> None:
    job = parsed(JOB.model_copy(update={field: config, "name": name}))
    quick, whole = job.build(AS_OF), job.build(AS_OF)
    _ = whole.config
    text = jsontext.dumps_for_web([show_job(quick)])
    assert json.loads(text) == json.loads(jsontext.dumps_for_web([show_job(whole)]))
    (shown,) = json.loads(text)
    assert shown.keys() == JobMetadata.model_fields.keys() | COMPUTED
    assert shown["hardware"] == JOB.hardware.model_dump()


def test_web_json_parses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    job = parsed().build(AS_OF)
    monkeypatch.setattr(ParsedJob, "make_rest", None)
    text = jsontext.dumps_for_web(show_job(job))
    assert b'"config":{"a":[1,{"b":2}]}' in text
    assert b'"extra":{"gpu_count":8}' in text


def test_web_json_is_that_of_the_model(made: JobMetadata) -> None:
    shown = json.loads(jsontext.dumps_for_web(show_job(made)))
    dumped = json.loads(made.model_dump_json())
    assert {**shown, "as_of": None} == {**dumped, "as_of": None}
    assert datetime.fromisoformat(shown["as_of"]) == datetime.fromisoformat(dumped["as_of"])


def test_show_job_with_names_shows_these_alone(made: JobMetadata) -> None:
    assert show_job(made, ["status", "id"]) == {"status": JobStatus.RUNNING, "id": "p/g/n/r"}


def test_web_json_of_what_orjson_refuses_shows_times_as_text() -> None:
    job = parsed(
        JOB.model_copy(update={"config": {"big": 2**70}, "started_at": AS_OF.completed_at})
    )
    (shown,) = json.loads(jsontext.dumps_for_web([show_job(job.build(AS_OF))]))
    assert (shown["started_at"], shown["config"]) == ("2026-02-04T00:00:00+00:00", {"big": 2**70})
