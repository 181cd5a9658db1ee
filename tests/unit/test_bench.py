"""The bench: its arithmetic with a clock of our own, and one small run from end to end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from jobcache.keys import KEY_TABLE
from jobcache_refresher import EmbeddedServer
from tests.bench import __main__ as bench
from tests.bench import compare
from tests.bench.bars import BARS, Bar
from tests.bench.measure import (
    LEAST_ROUNDS,
    Timing,
    alternate,
    calls_for_sample,
    summarize,
    take_samples,
)
from tests.bench.peer import Peer, PeerError
from tests.bench.report import quantity, times
from tests.bench.rows import Row, timing_row
from tests.bench.server import ServerView, kind_of, script_names

JOBS = 200


class FakeClock:
    """Time that passes only when somebody says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self.now += seconds

        return call


# Timing


def test_a_sample_is_the_seconds_of_one_call() -> None:
    clock = FakeClock()
    samples = take_samples(clock.spend(0.25), repeat=3, number=4, clock=clock)
    assert samples == [0.25, 0.25, 0.25]
    assert clock.now == 103.0


@pytest.mark.parametrize(
    ("seconds", "calls"), [(1.0, 1), (20e-6, 1), (10e-6, 2), (3e-6, 7), (0.0, 100_000)]
)
def test_quick_calls_are_repeated_within_a_sample(seconds: float, calls: int) -> None:
    assert calls_for_sample(seconds) == calls


def test_median_and_95th_percentile() -> None:
    assert summarize([float(n) for n in range(100, 0, -1)]) == Timing(50.5, 95.0, 100)
    assert summarize([7.0]) == Timing(7.0, 7.0, 1)
    with pytest.raises(ValueError, match="no samples"):
        summarize([])


def contestant(name: str, order: list[str], clock: FakeClock, seconds: float) -> Any:
    def take() -> list[float]:
        order.append(name)
        return take_samples(clock.spend(seconds), clock=clock)

    return take


def test_contestants_take_turns_and_the_first_round_does_not_count() -> None:
    clock, order = FakeClock(), list[str]()
    pair = {
        "old": contestant("old", order, clock, 2.0),
        "new": contestant("new", order, clock, 0.5),
    }
    assert alternate(pair, rounds=3, clock=clock) == {
        "old": Timing(2.0, 2.0, 3),
        "new": Timing(0.5, 0.5, 3),
    }
    assert order == ["old", "new"] * 4


def test_rounds_end_when_the_time_is_up() -> None:
    clock, order = FakeClock(), list[str]()
    slow = {"slow": contestant("slow", order, clock, 60.0)}
    assert alternate(slow, rounds=50, seconds=1.0, clock=clock)["slow"].samples == LEAST_ROUNDS
    quick = {"quick": contestant("quick", order, clock, 1.0)}
    assert alternate(quick, rounds=50, seconds=9.5, clock=clock)["quick"].samples == 10


# Rows and bars


def test_a_ratio_says_how_many_times_less_the_project_needs() -> None:
    row = timing_row("queries", "list_projects, warm", Timing(0.9, 1.0, 5), Timing(0.003, 0.004, 9))
    assert row.ratio == pytest.approx(300)
    assert row.met is (row.ratio is not None and row.ratio >= 300)
    assert row.detail["project_p95"] == 0.004


def test_bars_are_reached_or_not_or_nobody_knows() -> None:
    assert Bar("30 MB", most=30.0).is_met(ratio=None, project=30.0) is True
    assert Bar("30 MB", most=30.0).is_met(ratio=None, project=31.0) is False
    assert Bar("30 MB", most=30.0).is_met(ratio=None, project=None) is None
    assert Bar("3x", least_ratio=3.0).is_met(ratio=2.9, project=1.0) is False
    assert Bar("3x", least_ratio=3.0).is_met(ratio=None, project=1.0) is None
    assert Row("queries", "no such row", "seconds", 2.0, 1.0).met is None
    assert Row("memory", "Redis memory per job", "bytes", None, None).ratio is None


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1.5, "seconds", "1.5 s"),
        (0.0123, "seconds", "12.3 ms"),
        (4e-7, "seconds", "0.4 us"),
        (1_265e6, "bytes", "1265 MB"),
        (0.051, "share of a core", "5.1 %"),
        (None, "bytes", "-"),
    ],
)
def test_quantities_read_well(value: float | None, unit: Any, shown: str) -> None:
    assert quantity(value, unit) == shown


def test_ratios_read_well() -> None:
    assert [times(one) for one in (1234.5, 10.0, 0.666, None)] == ["1,234x", "10x", "0.67x", "-"]


# The server


def test_every_kind_of_key_is_told_apart() -> None:
    kinds = {row.key.replace("<", "").replace(">", ""): row.key for row in KEY_TABLE}
    assert {key: kind_of(key.encode()) for key in kinds} == {
        "job:id": "job",
        "jobs": "jobs",
        "status:s": "status",
        "project:p": "project",
        "project:p/status:s": "project/status",
        "group:g/status:s": "group/status",
        "project:p/group:g/status:s": "project/group/status",
        "runs:p/g/n": "runs",
        "running": "running",
        "running:p": "running",
        "projects": "projects",
        "groups:p": "groups",
        "meta": "meta",
        "lease": "lease",
        "changes": "changes",
        "requests": "requests",
        "tombstones": "tombstones",
    }


def test_scripts_are_known_by_name() -> None:
    assert {"page.lua", "apply.lua", "complete.lua"} <= set(script_names().values())


def test_a_server_may_refuse_to_tell() -> None:
    with EmbeddedServer() as embedded:
        with Redis.from_url(embedded.url, protocol=2) as admin:
            refused = ["-info", "-config", "-memory", "-slowlog"]
            admin.execute_command("ACL", "SETUSER", "web", "on", ">pw", "~*", "+@all", *refused)
            admin.set("x", 1)
        url = embedded.url.replace("unix://", "unix://web:pw@")
        with contextlib.closing(ServerView(url)) as server, server.slow_log():
            assert server.version() == "unknown"
            answers = [server.used_memory(), server.traffic(), server.slowest(), server.weigh(b"")]
            assert answers == [None] * 4


def test_what_a_peer_meets_reaches_its_parent() -> None:
    with Peer("idle") as peer:
        assert peer.ask("rss") > 1_000_000
        with pytest.raises(PeerError, match="AttributeError"):
            peer.ask("no_such_method")
        assert peer.ask("cpu") > 0


# From end to end


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "result.json"
    size = ["--jobs", str(JOBS), "--scans", "1", "--rounds", "3", "--poll-interval", "0.2"]
    assert bench.main([*size, "--json", str(path)]) == 0
    return path


def test_a_run_gives_every_row(result: Path) -> None:
    content = json.loads(result.read_text())
    rows = {row["name"]: row for row in content["rows"]}
    assert content["jobs"] == JOBS
    assert len(rows) == len(content["rows"])
    assert rows.keys() >= BARS.keys()
    assert {name for name, row in rows.items() if row["project"] is None} <= {
        "longest command, first publication",
        "longest command, queries",
    }
    for name, bar in BARS.items():
        assert rows[name]["bar"] == {"text": bar.text, "source": bar.source}
        assert (rows[name]["met"] is None) == (rows[name]["project"] is None)
        if bar.least_ratio is not None:
            assert rows[name]["ratio"] > 0
    assert not [row for row in content["rows"] if "DIFFER" in row["note"]]


def write_result(path: Path, ratio: float, *, jobs: int = JOBS) -> Path:
    row = {"unit": "seconds", "baseline": ratio, "project": 1.0, "ratio": ratio}
    size = {"unit": "bytes", "baseline": None, "project": 4000.0, "ratio": None}
    time = {"unit": "seconds", "baseline": None, "project": ratio, "ratio": None}
    rows = [{"name": "list", **row}, {"name": "hash", **size}, {"name": "longest", **time}]
    path.write_text(json.dumps({"format": 1, "jobs": jobs, "rows": rows}))
    return path


@pytest.mark.parametrize(
    ("ratio", "factor", "code"), [(100.0, "2", 0), (51.0, "2", 0), (49.0, "2", 1), (49.0, "3", 0)]
)
def test_a_ratio_that_fell_too_far_fails(
    ratio: float, factor: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = write_result(tmp_path / "old", 100.0), write_result(tmp_path / "new", ratio)
    flags = ["--compare", str(old), "--json", str(new), "--factor", factor]
    assert bench.main(flags) == code
    printed = capsys.readouterr().out
    assert ("WORSE" in printed) == bool(code)
    assert "hash" in printed
    assert "longest" not in printed


def test_the_worst_change_comes_first(tmp_path: Path) -> None:
    old, new = (compare.load(write_result(tmp_path / str(n), n)) for n in (100.0, 50.0))
    assert [(one.name, one.factor) for one in compare.changes(old, new)] == [
        ("list", 0.5),
        ("hash", 1.0),
    ]


@pytest.mark.parametrize("content", ["", "[]", '{"format": 99}'])
def test_what_is_no_result_is_named(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old.json"
    old.write_text(content)
    assert bench.main(["--compare", str(old), "--json", str(old)]) == 2
    assert str(old) in capsys.readouterr().err


def test_results_of_different_sizes_do_not_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = write_result(tmp_path / "old", 9.0), write_result(tmp_path / "new", 9.0, jobs=7)
    assert bench.main(["--compare", str(old), "--json", str(new)]) == 2
    assert "do not compare" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--jobs", "1", "--url", "redis://127.0.0.1:1/0"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
