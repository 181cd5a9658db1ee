"""Listings page by page: how much is asked for, what is remembered, and what a change between two steps does."""

from __future__ import annotations

from typing import Any

import pytest

from jobcache import CacheNotReady, CacheUnavailable, SchemaMismatch
from jobcache.queries.cursor import Cursor
from jobcache.queries.fetch import ATTEMPTS, CHUNK
from jobcache.queries.filters import Span
from jobcache.queries.paging import MEMBERS_PER_STEP, MOST_REMEMBERED, Rows, read_list
from jobcache.queries.plan import Plan
from jobcache.queries.query import Query
from tests.unit.replies import NOW, header, job_row, list_reply, make_source, tell

ONE, OTHER = b"p/g/n/1", b"p/g/n/other"


def paths(first: int, end: int) -> list[bytes]:
    return [b"p/g/n/%d" % number for number in range(first, end)]


def page_of(
    some: list[bytes], head: list[Any] | None = None, follows: bytes = b"none", **row: Any
) -> list[Any]:
    return list_reply(head or header(), [(path, job_row(path, **row)) for path in some], follows)


def named(
    some: list[bytes], revision: bytes = b"5", follows: bytes = b"none", **fields: Any
) -> list[Any]:
    """A page that tells no fields: the reader is expected to know the jobs at these revisions."""
    return list_reply(header(**fields), [(path, [revision]) for path in some], follows)


JOBS = Plan((b"jobs",))
TESTED = Plan((b"jobs",), tests=(b"a test",))


def listed(source: Any, limit: int | None = None, plan: Plan = JOBS, **options: Any) -> Query[Rows]:
    return read_list(source, plan, limit, **options)


def found_paths(rows: Rows) -> list[bytes]:
    return [job.path.encode() for job in rows.jobs]


@pytest.mark.parametrize(
    ("limit", "asked"),
    [
        (None, [CHUNK, CHUNK, CHUNK]),
        (CHUNK, [CHUNK]),
        (CHUNK + 50, [CHUNK, 50]),
        (10, [10]),
        (0, [0]),
    ],
)
def test_read_list_asks_page_after_page_up_to_the_limit(
    limit: int | None, asked: list[int]
) -> None:
    there = 2 * CHUNK + 7
    replies, first = [], 0
    for size in asked:
        first, last = first + size, min(first + size, there)
        follows = b"more" if last < there else b"none"
        replies.append(page_of(paths(first - size, last), follows=follows))
    heard = tell(listed(make_source(), limit), *replies)
    assert [args[3] for args in heard.args] == asked
    assert found_paths(heard.value) == paths(0, min(first, there))
    assert [step.renews for step in heard.steps] == [number > 0 for number in range(len(asked))]


def test_read_list_later_page_begins_behind_the_last_row() -> None:
    heard = tell(listed(make_source()), page_of(paths(0, CHUNK), follows=b"more"), page_of([]))
    assert heard.args[0][4:6] == (b"", b"")
    assert heard.args[1][4:6] == (b"%d" % NOW, paths(0, CHUNK)[-1])


def test_read_list_job_that_moved_between_two_pages_stands_once() -> None:
    first = page_of(paths(0, CHUNK), follows=b"more")
    heard = tell(listed(make_source()), first, page_of([*paths(5, 6), OTHER]))
    assert len(heard.value.jobs) == CHUNK + 1
    assert sorted(found_paths(heard.value)) == sorted([*paths(0, CHUNK), OTHER])


def test_read_list_known_answer_is_given_again_by_its_header() -> None:
    source = make_source()
    first = tell(listed(source), page_of([ONE, OTHER]))
    again = tell(listed(source), [header(completed_at=NOW + 9)])
    assert again.args[0][:3] == (b"1.5", 7, b"1")
    assert again.value.jobs == first.value.jobs
    assert again.value.header.completed_at == NOW + 9


def test_read_list_known_jobs_need_not_travel() -> None:
    source = make_source()
    tell(listed(source), page_of([ONE, OTHER]))
    heard = tell(listed(source), named([OTHER, ONE], generation=8))
    assert found_paths(heard.value) == [OTHER, ONE]


@pytest.mark.parametrize("argument", ["limit", "plan", "to_next"])
def test_read_list_answer_is_remembered_for_its_arguments(argument: str) -> None:
    source = make_source()
    tell(listed(source, 5), page_of([ONE]))
    options: Any = {
        "plan": {"plan": Plan((b"jobs",), Span(b"1.0"))},
        "to_next": {"to_next": True},
    }.get(argument, {})
    limit = 6 if argument == "limit" else 5
    heard = tell(listed(source, limit, **options), page_of([ONE]))
    assert heard.args[0][2] == b""


@pytest.mark.parametrize(("remembers", "baseline"), [(True, (b"1.5", 7)), (False, (b"", 0))])
def test_read_list_later_step_wants_all_fields_if_some_jobs_were_forgotten(
    remembers: bool, baseline: tuple[bytes, int]
) -> None:
    source = make_source()
    first = paths(0, CHUNK)
    tell(listed(source), page_of(first, follows=b"more"), page_of([]))
    if remembers:
        replies: list[Any] = [named(first, follows=b"more", generation=8), page_of([])]
    else:
        forgotten = b"p/g/n/new"
        replies = [
            named([*first[1:], forgotten], follows=b"more", generation=8),
            [header(generation=8), [job_row(forgotten)]],
            page_of([]),
        ]
    heard = tell(listed(source), *replies)
    assert heard.args[-1][:2] == baseline


def test_read_list_answer_of_several_steps_is_given_again_by_its_header() -> None:
    source = make_source()
    steps = [page_of(paths(0, CHUNK), follows=b"more"), page_of([OTHER])]
    first = tell(listed(source, MOST_REMEMBERED), *steps)
    again = tell(listed(source, MOST_REMEMBERED), [header()])
    assert again.args[0][2] == b"1"
    assert again.value.jobs == first.value.jobs
    assert again.value.found[1:] == first.value.found[1:]


def test_read_list_answer_of_two_generations_is_not_remembered_as_a_whole() -> None:
    source = make_source()
    steps = [page_of(paths(0, CHUNK), follows=b"more"), page_of([OTHER], header(generation=8))]
    tell(listed(source), *steps)
    again = tell(listed(source), named([ONE], generation=8))
    assert again.args[0][:3] == (b"1.5", 7, b""), "but its jobs need not travel again"


@pytest.mark.parametrize(
    ("limit", "to_next", "follows", "steps"),
    [
        (1, False, b"unknown", 1),
        (1, True, b"unknown", 2),
        (1, True, b"more", 1),
        (1, True, b"none", 1),
        (2, False, b"unknown", 2),
        (None, False, b"unknown", 2),
    ],
)
def test_read_list_goes_on_until_what_the_caller_wants_is_known(
    limit: int | None, to_next: bool, follows: bytes, steps: int
) -> None:
    replies = [page_of([ONE], follows=follows), page_of([])][:steps]
    heard = tell(listed(make_source(), limit, TESTED, to_next=to_next), *replies)
    assert [step.renews for step in heard.steps] == [False, True][:steps]
    if steps == 2:
        assert heard.args[1][4:6] == (b"%d" % NOW, ONE)
        assert heard.args[1][3] == (CHUNK if limit is None else limit - 1)


def test_read_list_step_that_passed_nothing_goes_on_from_where_it_began() -> None:
    cursor = Cursor(b"12.5", OTHER)
    step = list_reply(header(), [], b"unknown")
    heard = tell(listed(make_source(), 1, TESTED, after=cursor), step, page_of([ONE]))
    assert [args[4:6] for args in heard.args] == [(b"12.5", OTHER)] * 2


@pytest.mark.parametrize(
    ("after", "second", "total"),
    [
        (None, header(), 2),
        (None, header(generation=8), None),
        (Cursor(b"1", ONE), header(), None),
    ],
    ids=["all of one moment", "of two moments", "not from the beginning"],
)
def test_read_list_total_of_tested_jobs_is_exact_or_none(
    after: Cursor | None, second: list[Any], total: int | None
) -> None:
    steps = [page_of([ONE], follows=b"unknown"), page_of([OTHER], second)]
    heard = tell(listed(make_source(), 5, TESTED, after=after), *steps)
    assert heard.value.found.total == total


def test_read_list_total_of_whole_indexes_is_what_the_script_counted() -> None:
    reply = list_reply(header(), [(ONE, job_row(ONE))], b"more", total=9)
    assert tell(listed(make_source(), 1), reply).value.found.total == 9


def test_read_list_is_asked_of_the_script_that_tests_only_if_there_are_tests() -> None:
    for plan, script in ((JOBS, "page"), (TESTED, "search")):
        heard = tell(listed(make_source(), 1, plan), page_of([ONE]))
        assert heard.steps[0].script.name == script
        assert heard.args[0][10:] == ((MEMBERS_PER_STEP, b"a test") if plan.tests else ())


def test_read_list_job_that_changed_between_two_steps_is_asked_for_again() -> None:
    changed = [header(), [job_row(ONE, b"6")]]
    heard = tell(
        listed(make_source(), 10),
        named([ONE]),
        changed,
        named([ONE], b"6"),
        changed,
    )
    assert [job.path for job in heard.value.jobs] == [ONE.decode()]


def test_read_list_job_that_changes_each_time_is_accepted_at_last() -> None:
    replies: list[Any] = []
    for revision in (b"5", b"6", b"7"):
        replies += [
            named([ONE], revision),
            [header(), [job_row(ONE, b"%d" % (int(revision) + 1))]],
        ]
    heard = tell(listed(make_source(), 10), *replies)
    assert len(heard.steps) == 2 * ATTEMPTS
    assert len(heard.value.jobs) == 1


def test_read_list_epoch_that_changes_each_time_is_unavailable() -> None:
    replies: list[Any] = [named([ONE]), [header(epoch="2.5"), [job_row(ONE)]]] * ATTEMPTS
    with pytest.raises(CacheUnavailable, match="built anew again and again"):
        tell(listed(make_source(), 10), *replies)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"state": "building"}, CacheNotReady),
        ({"state": None, "schema": None}, CacheNotReady),
        ({"schema": 99}, SchemaMismatch),
    ],
)
def test_read_list_of_a_cache_that_is_not_ready_raises(
    fields: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        tell(listed(make_source(), 10), page_of([ONE], header(**fields)))
