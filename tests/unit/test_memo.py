"""What a process remembers of jobs."""

from __future__ import annotations

import copy
import pickle

import pytest

from jobcache import HardwareInfo, JobId, JobMetadata, JobStatus
from jobcache.codec import JOB_FIELDS, ParsedJob, Vantage, encode_job
from jobcache.memo import Memo

JOB = JobMetadata(
    name="n",
    project="p",
    group="g",
    run_id="r",
    status=JobStatus.RUNNING,
    config={"a": [1, {"b": 2}]},
    hardware=HardwareInfo(chip="h100", total_chips=8, hosts=["x"]),
)


def parsed(job: JobMetadata = JOB) -> ParsedJob:
    fields = encode_job(job, log_scanned=1)
    return ParsedJob(job.id, [fields.get(name) for name in JOB_FIELDS])


class TestMemo:
    def test_good_for_one_revision_only(self) -> None:
        memo, job = Memo(1 << 20), parsed()
        memo.enter(b"e")
        memo.put(b"p", b"7", job)
        assert memo.get(b"p", b"7") is job
        assert memo.get(b"p", b"8") is None
        assert memo.get(b"p", b"6") is None
        assert memo.known_revision(b"p") == b"7"
        assert memo.known_revision(b"q") == b""

    def test_another_epoch_knows_nothing(self) -> None:
        memo = Memo(1 << 20)
        memo.enter(b"e")
        memo.put(b"p", b"7", parsed())
        memo.note_answer("query", 7)
        memo.enter(b"f")
        assert memo.get(b"p", b"7") is None
        assert memo.last_answered("query") == 0

    def test_bounded_and_the_used_stay(self) -> None:
        size = parsed().size
        memo = Memo(size * 20)
        memo.enter(b"e")
        memo.put(b"used", b"1", parsed())
        for number in range(200):
            memo.put(b"%d" % number, b"1", parsed())
            assert memo.get(b"used", b"1") is not None
        kept = sum(memo.get(b"%d" % number, b"1") is not None for number in range(200))
        assert 1 <= kept <= 22

    def test_none_at_all(self) -> None:
        memo = Memo(0)
        memo.enter(b"e")
        memo.put(b"p", b"1", parsed())
        memo.note_answer("query", 7)
        assert memo.get(b"p", b"1") is None
        assert memo.last_answered("query") == 0


class TestBuild:
    def test_what_is_built_is_a_model_like_any_other(self) -> None:
        made = parsed().build(Vantage("/s", 0.0))
        plain = JobMetadata.model_validate(made.model_dump())
        assert made == plain
        assert repr(made) == repr(plain)
        assert made.model_dump_json() == plain.model_dump_json()
        assert made.model_copy(deep=True) == plain
        assert copy.deepcopy(made) == plain
        assert pickle.loads(pickle.dumps(made)) == plain
        assert made.model_fields_set == set(JobMetadata.model_fields)
        made.config = {"mine": 1}
        made.hardware.chip = None
        assert made.model_dump()["config"] == {"mine": 1}

    def test_nothing_is_shared(self) -> None:
        job = parsed()
        first, second = job.build(None), job.build(None)
        first.config["a"][1]["b"] = 3
        first.hardware.hosts.append("y")
        first.name = "other"
        assert second == job.build(None)
        assert second.config == JOB.config
        assert second.hardware == JOB.hardware

    @pytest.mark.parametrize(("since", "stale"), [(0.0, True), (float("-inf"), True)])
    def test_a_running_job_without_a_readable_heartbeat_is_stale(
        self, since: float, stale: bool
    ) -> None:
        assert parsed().build(Vantage("/s", since)).is_stale is stale

    def test_ids_of_any_bytes(self) -> None:
        job = JobId("\udcff", "g", "n\n", "r")
        fields = encode_job(JOB, log_scanned=None)
        made = ParsedJob(job, [fields.get(name) for name in JOB_FIELDS]).build(Vantage("/s", 0))
        assert made.id == job
        assert made.metadata_path == "/s/\udcff/g/n\n/r/metadata.json"
