"""The made-up runs: their shape, their size, and a live simulation that stays bounded."""

from __future__ import annotations

import json
import random
import re
import threading
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from jobcache_refresher.demo.producer import Producer
from jobcache_refresher.demo.runs import layout, local_timestamp, make_metadata, make_run_id
from jobcache_refresher.demo.tree import build_tree

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_770_000_000.0
RUN_ID = re.compile(r"\d{8}_\d{6}(_\d+)?")


def metadata_of(run_directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run_directory / "metadata.json").read_text())
    return content


def runs_below(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.glob("*/*/*/*/metadata.json"))


def contents_of(root: Path) -> dict[str, tuple[bytes, float]]:
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime)
        for path in root.rglob("*")
        if path.is_file()
    }


def a_run(rng: random.Random, **changes: Any) -> dict[str, Any]:
    return make_metadata(
        rng,
        **{
            "project": "speech",
            "group": "sweep_00",
            "name": "3b-ssm_lora_linear",
            "run_id": make_run_id(NOW - 60, 7),
            "started": NOW - 60,
            "heartbeat": NOW,
            "status": "running",
            **changes,
        },
    )


def test_metadata_has_the_producers_fields_in_the_producers_order() -> None:
    run = a_run(random.Random(0))
    assert list(run) == [
        *("name", "project", "group", "job_key", "run_id", "start_time", "last_heartbeat"),
        *("status", "slurm_job_id", "hardware", "config"),
    ]
    assert list(run["hardware"]) == ["chip", "total_chips", "hosts"]
    assert {"architecture", "optimization", "training", "eval", "logging", "request"} <= set(
        run["config"]
    )
    assert run["last_heartbeat"] == local_timestamp(NOW)
    assert run["slurm_job_id"] == "7"
    assert a_run(random.Random(0), run_id=make_run_id(NOW))["slurm_job_id"] is None


def test_config_says_what_the_name_says() -> None:
    config = a_run(random.Random(0))["config"]
    assert config["architecture"]["width"] == 2560
    assert "state" in config["architecture"]
    assert "lora" in config["optimization"]
    assert config["optimization"]["schedule"] == "linear"


def test_one_seed_gives_one_run() -> None:
    assert a_run(random.Random(3)) == a_run(random.Random(3))
    assert a_run(random.Random(3)) != a_run(random.Random(4))


@pytest.mark.parametrize("jobs", [0, 1, 21, 5_000])
def test_layout_places_exactly_the_jobs_asked_for(jobs: int) -> None:
    places = list(layout(random.Random(0), jobs))
    assert sum(place.runs for place in places) == jobs
    assert len({place[:3] for place in places}) == len(places)
    if jobs == 5_000:
        assert len({place.project for place in places}) == 21
        assert 4 < jobs / len(places) < 6


def test_tree_is_written_as_the_producer_would(tmp_path: Path) -> None:
    runs = build_tree(tmp_path, 400, now=NOW)

    assert sorted(runs) == runs_below(tmp_path)
    assert len(runs) == 400
    sizes = []
    for run in runs:
        project, group, name, run_id = run.relative_to(tmp_path).parts
        text = (run / "metadata.json").read_text()
        content = json.loads(text)
        assert text == json.dumps(content, indent=2)
        assert content["project"] == (None if project == "general" else project)
        assert content["group"] == (None if group == "default" else group)
        assert (content["name"], content["run_id"]) == (name, run_id)
        assert RUN_ID.fullmatch(run_id)
        sizes.append(len(text))
    assert 2_000 < sum(sizes) / len(sizes) < 3_000
    assert max(sizes) < 4_000


def test_tree_dates_files_and_directories_by_what_they_say(tmp_path: Path) -> None:
    runs = build_tree(tmp_path, 400, running=0.1, now=NOW)

    statuses = Counter(metadata_of(run)["status"] for run in runs)
    assert statuses["running"] == 40
    assert set(statuses) == {"running", "completed", "failed", "preempted"}
    for run in runs:
        content = metadata_of(run)
        modified = (run / "metadata.json").stat().st_mtime
        heartbeat = datetime.fromisoformat(content["last_heartbeat"]).timestamp()
        assert modified == pytest.approx(heartbeat, abs=0.001)
        if content["status"] == "running":
            assert NOW - 30 <= modified <= NOW
        else:
            assert modified < NOW - 3_600
            assert run.stat().st_mtime < modified


def test_a_tenth_of_the_tree_has_a_log_with_the_wandb_line(tmp_path: Path) -> None:
    runs = build_tree(tmp_path, 400, now=NOW)

    logs = [(run / "output.log").read_text() for run in runs if (run / "output.log").exists()]
    assert 20 < len(logs) < 70
    for log in logs:
        assert re.search(r"\x1b\[1mWANDB \| project=\S+ run_id=\S+ url=https://wandb\.ai/\S+", log)


def test_one_seed_gives_one_tree(tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        build_tree(tmp_path / name, 50, seed=seed, now=NOW)
    assert contents_of(tmp_path / "first") == contents_of(tmp_path / "again")
    assert contents_of(tmp_path / "first") != contents_of(tmp_path / "other")


@pytest.mark.parametrize(("jobs", "running"), [(-1, 0.0), (1, -0.1), (1, 1.1)])
def test_tree_refuses_numbers_out_of_range(tmp_path: Path, jobs: int, running: float) -> None:
    with pytest.raises(ValueError, match="cannot build"):
        build_tree(tmp_path, jobs, running=running)


def test_producer_shows_every_fate_and_stays_bounded(tmp_path: Path) -> None:
    producer = Producer(tmp_path, jobs=8, pace=10.0)
    statuses: Counter[str] = Counter()
    silent: set[Path] = set()
    seen: set[Path] = set()

    for second in range(200):
        producer.step(NOW + second)
        present = runs_below(tmp_path)
        seen.update(present)
        assert 8 <= len(present) <= 8 + 8 + 2
        if second % 4:  # a run lasts longer, so every fourth second shows every fate
            continue
        for run in present:
            content = metadata_of(run)
            statuses[content["status"]] += 1
            if content["status"] == "running" and content["last_heartbeat"] < local_timestamp(
                NOW + second - 5
            ):
                silent.add(run)

    assert set(statuses) == {"running", "completed", "failed", "preempted"}
    assert silent, "no run was killed"
    assert len(seen) > 100
    assert seen - set(runs_below(tmp_path)), "no run vanished"


def test_producer_beats_and_then_logs_the_wandb_line(tmp_path: Path) -> None:
    producer = Producer(tmp_path, jobs=1, beat_interval=2.0)
    assert producer.step(NOW) == (1, 0, 0, 0)
    (run,) = runs_below(tmp_path)
    assert metadata_of(run)["last_heartbeat"] == metadata_of(run)["start_time"]
    assert "WANDB" not in (run / "output.log").read_text()

    assert producer.step(NOW + 2) == (0, 1, 0, 0)
    assert metadata_of(run)["last_heartbeat"] == local_timestamp(NOW + 2)
    assert "url=https://wandb.ai/" in (run / "output.log").read_text()


def test_producer_does_not_bring_back_a_run_that_was_removed(tmp_path: Path) -> None:
    producer = Producer(tmp_path, jobs=1)
    producer.step(NOW)
    (removed,) = runs_below(tmp_path)
    (removed / "output.log").unlink()
    (removed / "metadata.json").unlink()
    removed.rmdir()

    producer.step(NOW + 3)

    assert not removed.exists()
    assert len(runs_below(tmp_path)) == 1


def test_producer_runs_until_it_is_stopped(tmp_path: Path) -> None:
    stop = threading.Event()

    def clock() -> float:
        stop.set()
        return NOW

    Producer(tmp_path, jobs=3).run(stop, clock)

    assert len(runs_below(tmp_path)) == 3


@pytest.mark.parametrize("wrong", [{"jobs": 0}, {"pace": 0.0}, {"beat_interval": -1.0}])
def test_producer_refuses_numbers_that_are_not_positive(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="positive"):
        Producer(tmp_path, **wrong)
