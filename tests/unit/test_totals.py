"""Totals: what the server counted, told by status, with stale jobs apart from those that run."""

from __future__ import annotations

from typing import Any

from jobcache import JobCounts, JobStatus
from jobcache.queries.totals import counts, get_dashboard_stats, list_projects
from tests.unit.replies import header, make_source, tell

TOTALS = [15, 2, 5, 4, 3, 2, 1]
"""All jobs, those that run with a fresh heartbeat, then running, completed, failed, preempted and unknown."""
BY_STATUS = {
    "total_jobs": 15,
    "running": 2,
    "completed": 4,
    "failed": 3,
    "preempted": 2,
    "unknown": 1,
    "stale": 3,
}


def reply(chips: bytes | None = b"16", **fields: Any) -> list[Any]:
    projects = [[b"b", TOTALS, [b"y", b"x"]], [b"\xff", TOTALS, [b"g"]], [b"a", TOTALS, []]]
    return [header(**fields), chips, TOTALS, projects, b"0"]


def test_counts_running_jobs_without_a_fresh_heartbeat_are_stale() -> None:
    assert [status.value for status in JobStatus] == list(BY_STATUS)[1:6], "the order of TOTALS"
    told = tell(counts(make_source()), reply()).value.value
    assert told == JobCounts(**BY_STATUS, active_chips=16)


def test_counts_active_chips_that_are_no_number_are_0() -> None:
    for chips in (None, b"many"):
        assert tell(counts(make_source()), reply(chips)).value.value.active_chips == 0


def test_list_projects_is_sorted_by_name_with_sorted_groups() -> None:
    projects = tell(list_projects(make_source()), reply()).value.value
    assert [(one.name, one.groups) for one in projects] == [
        ("a", []),
        ("b", ["x", "y"]),
        ("\uefff", ["g"]),
    ]
    assert projects[0].model_dump(exclude={"name", "groups"}) == BY_STATUS


def test_get_dashboard_stats_tells_totals_and_projects() -> None:
    stats = tell(get_dashboard_stats(make_source()), reply()).value.value
    told = {**BY_STATUS, "active_chips": 16, "total_checkpoints": 0}
    assert told.items() <= stats.model_dump(exclude={"projects"}).items()
    assert [one.name for one in stats.projects] == ["a", "b", "\uefff"]


def test_totals_of_the_same_generation_are_given_again_to_all_three_calls() -> None:
    source = make_source()
    first = tell(counts(source), reply())
    assert first.args[0][:2] == (b"", b"")
    again = tell(counts(source), [header()])
    assert again.args[0][:2] == (b"1.5", 7)
    assert again.value.value == first.value.value
    assert len(tell(list_projects(source), [header()]).value.value) == 3
    other = tell(get_dashboard_stats(source), reply(b"1", generation=8)).value.value
    assert other.active_chips == 1


def test_totals_each_call_gives_objects_of_its_own() -> None:
    source = make_source()
    tell(get_dashboard_stats(source), reply())
    spoilt = tell(get_dashboard_stats(source), [header()]).value.value
    spoilt.projects[1].groups.append("mine")
    spoilt.projects[1].running = 99
    spoilt.running = 99
    clean = tell(get_dashboard_stats(source), [header()]).value.value
    assert (clean.running, clean.projects[1].running) == (2, 2)
    assert clean.projects[1].groups == ["x", "y"]
