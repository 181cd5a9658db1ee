"""Which indexes a list is read from, and what is still to be tested of each job."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jobcache import JobId, JobStatus
from jobcache.queries.filters import UNLIMITED, Filters, Span
from jobcache.queries.plan import MOST_INDEXES, make_plan
from jobcache.schema.index import IndexedFields, index_entries

DAY = timedelta(days=1)
AGO = b"ago:86400.0"
ENDED = [b"activity:completed", b"activity:failed", b"activity:preempted", b"activity:unknown"]
NO_TESTS = (0, 0, 0, 0, b"", b"", b"", b"", b"")
"""What ``search.lua`` reads if nothing is to be tested."""


@pytest.mark.parametrize(
    ("given", "indexes"),
    [
        ({}, [b"jobs"]),
        ({"project": "p"}, [b"project:p"]),
        ({"project": ["q", "p"]}, [b"project:p", b"project:q"]),
        ({"status": ["failed", "running"]}, [b"status:failed", b"status:running"]),
        ({"project": "p", "status": "failed"}, [b"project:p/status:failed"]),
        (
            {"group": ["g", "h"], "status": "failed"},
            [b"group:g/status:failed", b"group:h/status:failed"],
        ),
        (
            {"project": ["p", "q"], "group": "g", "status": "failed"},
            [b"project:p/group:g/status:failed", b"project:q/group:g/status:failed"],
        ),
        ({"status": "running", "order": "activity"}, [b"running"]),
        ({"status": "running", "project": "p", "order": "activity"}, [b"running:p"]),
        ({"status": "failed", "order": "activity"}, [b"activity:failed"]),
    ],
)
def test_plan_of_what_indexes_hold_needs_no_test(
    given: dict[str, Any], indexes: list[bytes]
) -> None:
    plan = make_plan(Filters.of(**given))
    assert sorted(plan.indexes) == indexes
    assert plan.tests == ()


@pytest.mark.parametrize("order", ["started", "activity"])
def test_plan_time_by_which_a_list_is_ordered_is_a_span_of_scores(order: str) -> None:
    own, other = ("started", "active") if order == "started" else ("active", "started")
    wanted: dict[str, Any] = {f"{own}_after": DAY, f"{own}_before": DAY}
    plan = make_plan(Filters.of(order=order, **wanted))
    assert (plan.span, plan.tests) == (Span(AGO, AGO), ())
    wanted = {f"{other}_after": DAY}
    plan = make_plan(Filters.of(order=order, **wanted))
    assert plan.span == UNLIMITED
    assert plan.tests[5:] == ((b"", b"", AGO, b"") if order == "started" else (AGO, b"", b"", b""))


@pytest.mark.parametrize(
    ("given", "indexes", "tests"),
    [
        ({"text": "b A"}, [b"jobs"], (2, b"a", b"b", *NO_TESTS[1:])),
        ({"text": "a", "project": "p"}, [b"project:p"], (1, b"a", *NO_TESTS[1:])),
        ({"status": "live"}, [b"status:running"], (0, 0, 0, 0, b"live", *NO_TESTS[5:])),
        (
            {"status": ["stale", "failed"]},
            [b"status:failed", b"status:running"],
            (0, 0, 0, 0, b"stale", *NO_TESTS[5:]),
        ),
        (
            {"project": "p", "group": "g", "order": "activity"},
            [*ENDED, b"running"],
            (0, 1, b"p", 1, b"g", 0, *NO_TESTS[4:]),
        ),
        (
            {"status": "live", "project": "p", "order": "activity"},
            [b"running:p"],
            (0, 0, 0, 0, b"live", *NO_TESTS[5:]),
        ),
        (
            {"status": ["failed", "running"], "project": "p", "order": "activity"},
            [b"activity:failed", b"running"],
            (0, 1, b"p", *NO_TESTS[2:]),
        ),
    ],
)
def test_plan_of_what_indexes_do_not_hold_tests_the_rest(
    given: dict[str, Any], indexes: list[bytes], tests: tuple[Any, ...]
) -> None:
    plan = make_plan(Filters.of(**given))
    assert (sorted(plan.indexes), plan.tests) == (indexes, tests)


MANY = [f"n{number:02}" for number in range(40)]


@pytest.mark.parametrize(
    ("given", "first", "tested"),
    [
        ({"project": MANY}, b"jobs", {"project": 40}),
        ({"group": MANY}, b"jobs", {"group": 40}),
        ({"group": MANY, "status": "failed"}, b"status:failed", {"group": 40}),
        ({"project": MANY[:20], "status": ["failed", "running"]}, b"project:n00", {"status": 2}),
        ({"project": MANY[:10], "group": MANY[:10]}, b"project:n00", {"group": 10}),
        ({"project": MANY, "group": "g"}, b"group:g/status:completed", {"project": 40}),
        ({"project": MANY, "group": MANY}, b"jobs", {"project": 40, "group": 40}),
    ],
)
def test_plan_of_many_values_reads_a_bounded_number_of_indexes_and_tests_the_rest(
    given: dict[str, Any], first: bytes, tested: dict[str, int]
) -> None:
    plan = make_plan(Filters.of(**given))
    assert len(plan.indexes) <= MOST_INDEXES
    assert sorted(plan.indexes)[0] == first
    counts = [one for one in plan.tests if isinstance(one, int)]
    assert counts == [0, *(tested.get(name, 0) for name in ("project", "group", "status"))]


@pytest.mark.parametrize("order", ["started", "activity"])
@pytest.mark.parametrize("project", [None, "p", ["p", "q"], MANY])
@pytest.mark.parametrize("group", [None, "g", ["g", "h"], MANY])
@pytest.mark.parametrize("status", [None, "running", ["failed", "live"], "unknown"])
def test_plan_indexes_hold_each_job_at_most_once_and_all_that_match(
    order: str, project: Any, group: Any, status: Any
) -> None:
    filters = Filters.of(project, group, status, order=order)
    plan = make_plan(filters)
    for job in (JobId("p", "g", "n", "r"), JobId("z", "z", "n", "r"), JobId("q", "n00", "n", "r")):
        for own in JobStatus:
            entries = index_entries(job, IndexedFields(own, 1.0, 1.0))
            held = sum([entry.key for entry in entries].count(index) for index in plan.indexes)
            matches = (
                (filters.projects is None or job.project in filters.projects)
                and (filters.groups is None or job.group in filters.groups)
                and (filters.statuses is None or own in filters.statuses)
            )
            assert held == 1 if matches else held <= 1
