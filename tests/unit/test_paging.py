"""Listings page by page: how much is asked for, what is remembered, and what a change between two steps does."""

from __future__ import annotations

from typing import Any

import pytest

from jobcache import CacheNotReady, CacheUnavailable, SchemaMismatch
from jobcache.queries.fetch import ATTEMPTS, CHUNK
from jobcache.queries.paging import list_jobs, read_page
from jobcache.queries.query import Query
from tests.unit.replies import NOW, header, job_row, make_source, paths_of, tell

ONE, OTHER = b"p/g/n/1", b"p/g/n/2"


def paths(first: int, end: int) -> list[bytes]:
    return [b"p/g/n/%d" % number for number in range(first, end)]


def page_of(some: list[bytes], head: list[Any] | None = None, **row: Any) -> list[Any]:
    rows = [[path, b"%d" % (NOW - rank), job_row(path, **row)] for rank, path in enumerate(some)]
    return [head or header(), len(rows), rows]


def named(some: list[bytes], revision: bytes = b"5", **fields: Any) -> list[Any]:
    """A page that tells no fields: the reader is expected to know the jobs at these revisions."""
    return [header(**fields), len(some), [[path, b"1", [revision]] for path in some]]


def listed(source: Any, limit: int | None = None) -> Query[Any]:
    return list_jobs(source, [b"jobs"], limit)


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
def test_list_jobs_asks_page_after_page_up_to_the_limit(
    limit: int | None, asked: list[int]
) -> None:
    there = 2 * CHUNK + 7
    replies, first = [], 0
    for size in asked:
        replies.append(page_of(paths(first, min(first + size, there))))
        first += size
    heard = tell(listed(make_source(), limit), *replies)
    assert [args[3] for args in heard.args] == asked
    assert paths_of(heard.value.value) == paths(0, min(first, there))
    assert [step.renews for step in heard.steps] == [number > 0 for number in range(len(asked))]


def test_list_jobs_later_page_begins_behind_the_last_row() -> None:
    heard = tell(listed(make_source()), page_of(paths(0, CHUNK)), page_of([]))
    assert heard.args[0][4:6] == (b"", b"")
    assert heard.args[1][4:6] == (b"%d" % (NOW - CHUNK + 1), paths(0, CHUNK)[-1])


def test_list_jobs_job_that_moved_between_two_pages_stands_once() -> None:
    heard = tell(listed(make_source()), page_of(paths(0, CHUNK)), page_of([*paths(5, 6), OTHER]))
    assert len(heard.value.value) == CHUNK
    assert sorted(paths_of(heard.value.value)) == sorted(paths(0, CHUNK))


def test_list_jobs_known_answer_is_given_again_by_its_header() -> None:
    source = make_source()
    first = tell(listed(source), page_of([ONE, OTHER]))
    again = tell(listed(source), [header(completed_at=NOW + 9)])
    assert again.args[0][:3] == (b"1.5", 7, b"1")
    assert again.value.value == first.value.value
    assert again.value.header.completed_at == NOW + 9


def test_list_jobs_known_jobs_need_not_travel() -> None:
    source = make_source()
    tell(listed(source), page_of([ONE, OTHER]))
    heard = tell(listed(source), named([OTHER, ONE], generation=8))
    assert paths_of(heard.value.value) == [OTHER, ONE]


@pytest.mark.parametrize("argument", ["limit", "window"])
def test_list_jobs_answer_is_remembered_for_its_arguments(argument: str) -> None:
    source = make_source()
    tell(list_jobs(source, [b"jobs"], 5), page_of([ONE]))
    options: Any = {"window": 60.0} if argument == "window" else {}
    limit = 6 if argument == "limit" else 5
    heard = tell(list_jobs(source, [b"jobs"], limit, **options), page_of([ONE]))
    assert heard.args[0][2] == b""


@pytest.mark.parametrize(("remembers", "baseline"), [(True, (b"1.5", 7)), (False, (b"", 0))])
def test_list_jobs_later_page_wants_all_fields_if_some_jobs_were_forgotten(
    remembers: bool, baseline: tuple[bytes, int]
) -> None:
    source = make_source()
    first = paths(0, CHUNK)
    tell(listed(source), page_of(first), page_of([]))
    if remembers:
        replies: list[Any] = [[header()], page_of([])]
    else:
        forgotten = b"p/g/n/new"
        replies = [
            named([*first[1:], forgotten], generation=8),
            [header(generation=8), [job_row(forgotten)]],
            page_of([]),
        ]
    heard = tell(listed(source), *replies)
    assert heard.args[-1][:2] == baseline


def test_read_page_job_that_changed_between_two_steps_is_asked_for_again() -> None:
    changed = [header(), [job_row(ONE, b"6")]]
    heard = tell(
        read_page(make_source(), [b"jobs"], limit=10),
        named([ONE]),
        changed,
        named([ONE], b"6"),
        changed,
    )
    assert [job.path for job in heard.value.jobs] == [ONE.decode()]


def test_read_page_job_that_changes_each_time_is_accepted_at_last() -> None:
    replies: list[Any] = []
    for revision in (b"5", b"6", b"7"):
        replies += [
            named([ONE], revision),
            [header(), [job_row(ONE, b"%d" % (int(revision) + 1))]],
        ]
    heard = tell(read_page(make_source(), [b"jobs"], limit=10), *replies)
    assert len(heard.steps) == 2 * ATTEMPTS
    assert len(heard.value.jobs) == 1


def test_read_page_epoch_that_changes_each_time_is_unavailable() -> None:
    replies: list[Any] = [named([ONE]), [header(epoch="2.5"), [job_row(ONE)]]] * ATTEMPTS
    with pytest.raises(CacheUnavailable, match="built anew again and again"):
        tell(read_page(make_source(), [b"jobs"], limit=10), *replies)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"state": "building"}, CacheNotReady),
        ({"state": None, "schema": None}, CacheNotReady),
        ({"schema": 99}, SchemaMismatch),
    ],
)
def test_read_page_of_a_cache_that_is_not_ready_raises(
    fields: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        tell(read_page(make_source(), [b"jobs"], limit=10), page_of([ONE], header(**fields)))


def test_read_page_without_a_signature_is_not_remembered() -> None:
    source = make_source()
    for _ in range(2):
        heard = tell(read_page(source, [b"jobs"], limit=10), page_of([ONE]))
        assert heard.args[0][:3] == (b"", 0, b"")
