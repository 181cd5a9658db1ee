"""The bench: its arithmetic, with a clock of the tests' own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from jobcache.schema.keys import KEY_TABLE
from tests.bench import __main__ as bench
from tests.bench import app, compare, plot, publish
from tests.bench.bars import QUERIES, Bar
from tests.bench.measure import (
    LEAST_ROUNDS,
    Timing,
    alternate,
    calls_for_sample,
    summarize,
    take_samples,
)
from tests.bench.report import quantity, times
from tests.bench.rows import Row, timing_row
from tests.bench.server import kind_of, script_names
from tests.bench.synthetic import Population, busiest, made_up_jobs
from tests.bench.tree import placeless

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


def test_summarize_gives_median_and_95th_percentile() -> None:
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


def test_more_requests_a_second_are_better() -> None:
    assert Row("app", "rate", "requests a second", 20.0, 500.0).ratio == 25
    assert Row("app", "rate", "requests a second", None, 500.0).ratio is None


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
        "activity:s": "activity",
        "projects": "projects",
        "groups:p": "groups",
        "meta": "meta",
        "lease": "lease",
        "changes": "changes",
        "requests": "requests",
        "tombstones": "tombstones",
        "problems": "problems",
        "release": "release",
    }


def test_scripts_are_known_by_name() -> None:
    assert {"page.lua", "apply.lua", "complete.lua"} <= set(script_names().values())


# Jobs that are made up


def test_more_jobs_differ_in_nothing_but_their_number() -> None:
    few, many = Population(100, 100, 3), Population(300, 100, 3)
    some, all_of_them = (list(made_up_jobs(one)) for one in (few, many))
    for jobs, population in ((some, few), (all_of_them, many)):
        assert len({one.job for one in jobs}) == len(jobs) == population.jobs
        assert sum(one.is_running for one in jobs) == 3
        assert {one.fields()[b"status"] for one in jobs if one.is_running} == {b"running"}
    for level in (1, 2):
        assert len({one.job[:level] for one in some}) == len(
            {one.job[:level] for one in all_of_them}
        )
    few_names, many_names = ({one.job[:3] for one in jobs} for jobs in (some, all_of_them))
    assert len(many_names) == 3 * len(few_names), "as many runs a name"
    assert busiest(few) == busiest(many)
    assert busiest(few) in {one.job[:3] for one in some}
    with pytest.raises(ValueError, match="no multiple"):
        Population(150, 100, 3)


def test_a_job_may_beat_again() -> None:
    one = next(job for job in made_up_jobs(Population(50, 50, 1)) if job.is_running)
    first, later = one.fields(), one.fields(one.heartbeat + 30)
    assert {name for name in first if first[name] != later[name]} == {
        *(b"last_heartbeat", b"heartbeat_at", b"fingerprint")
    }


# The web application


def test_the_mix_is_spread_evenly() -> None:
    tree = placeless(1, ("p", "a", "n #", "r"))
    paths = app.turns(tree)
    counts = {path: count for path, (_, count) in app.mix(tree).items()}
    assert {path: paths.count(path) for path in counts} == counts
    assert len(paths) == 20
    assert "/api/jobs/p/a/n%20%23/r" in paths
    assert max(sum(path == one for one in paths[:10]) for path in counts) <= 4


# The picture and the pages


def result_with(ratio: float) -> dict[str, Any]:
    rows = [
        {"name": f"{query}, {mode}", "ratio": ratio * (1 if mode == "warm" else 0.5)}
        for query in QUERIES
        for mode in ("warm", "cold")
    ]
    return {"jobs": 7, "rows": rows}


def test_a_picture_says_in_words_what_it_shows() -> None:
    drawn = plot.draw(result_with(120.0))
    picture = ElementTree.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    title, description = (picture.find(space + name) for name in ("title", "desc"))
    assert title is not None
    assert description is not None
    assert picture.get("role") == "img"
    assert f"{title.get('id')} {description.get('id')}" == picture.get("aria-labelledby")
    assert "get_recent_jobs: 120x warm, 60x cold, 50x is the target" in (description.text or "")
    texts = {text.text for text in picture.iter(space + "text")}
    assert {query for query in QUERIES if query != "get_job"} <= texts
    assert "prefers-color-scheme: dark" in drawn


def test_ten_times_as_fast_is_as_far_everywhere() -> None:
    axis = plot.Axis([0.01, 1000.0])
    places = [axis.x(ratio) for ratio in (0.01, 1.0, 100.0)]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1])
    assert places[0] == axis.left
    with pytest.raises(ValueError, match="no queries"):
        plot.draw({"jobs": 1, "rows": []})


def test_the_pages_say_what_was_measured() -> None:
    result = compare.load(publish.RESULT)
    for page in publish.PAGES:
        text = page.read_text("utf-8")
        assert "<!-- bench: " in text, page
        assert publish.rewritten(text, result) == text, f"{page.name}: run make bench-report"
    assert publish.PICTURE.read_text() == plot.draw(result), "run make bench-report"
    with pytest.raises(ValueError, match="no row"):
        publish.rewritten(text, {**result, "rows": []})
    with pytest.raises(ValueError, match="'x'"):
        publish.rewritten("<!-- bench: x -->\n<!-- bench: end -->", result)


def test_every_measured_table_is_shown_once() -> None:
    shown = [
        name
        for page in publish.PAGES
        for name in re.findall(r"<!-- bench: (\w+) -->", page.read_text("utf-8"))
        if name != "end"
    ]
    assert sorted(shown) == sorted(publish.TABLES)


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


def test_rows_that_are_gone_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = write_result(tmp_path / "old", 9.0), write_result(tmp_path / "new", 9.0)
    content = json.loads(new.read_text())
    content["rows"] = [row for row in content["rows"] if row["name"] != "hash"]
    new.write_text(json.dumps(content))
    assert bench.main(["--compare", str(old), "--json", str(new)]) == 0
    assert f"only in {old}: hash" in " ".join(capsys.readouterr().out.split())


def test_a_part_measured_again_takes_the_place_of_its_rows(tmp_path: Path) -> None:
    old, new = (compare.load(write_result(tmp_path / str(n), n)) for n in (9.0, 5.0))
    new["rows"] = [row for row in new["rows"] if row["name"] == "list"]
    both = compare.merged({**old, "scale": [1, 2]}, new)
    assert [(row["name"], row["ratio"]) for row in both["rows"]] == [
        ("list", 5.0),
        ("hash", None),
        ("longest", None),
    ]
    assert both["scale"] == [1, 2]


def test_scales_must_be_the_same(tmp_path: Path) -> None:
    old, new = (compare.load(write_result(tmp_path / name, 9.0)) for name in ("old", "new"))
    assert compare.changes({**old, "scale": [1, 2]}, new)
    with pytest.raises(ValueError, match="do not compare"):
        compare.changes({**old, "scale": [1, 2]}, {**new, "scale": [1, 3]})


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
