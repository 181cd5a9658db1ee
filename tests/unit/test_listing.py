"""The calls that list jobs: which indexes they read, and which arguments they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest

from jobcache import JobStatus
from jobcache.queries import listing
from jobcache.queries.cursor import Cursor
from jobcache.queries.fetch import CHUNK
from jobcache.queries.filters import Filters
from jobcache.queries.listing import LARGEST_PAGE
from tests.unit.replies import NOW, header, job_row, list_reply, make_source, paths_of, tell

ONE, OTHER = b"p/g/n/1", b"p/g/n/2"
KEY = b"jobcache:{n}:"
ANY = Filters.of()
STATUSES = [status.value.encode() for status in JobStatus]


def page_of(*paths: bytes, total: int = 0, follows: bytes = b"none") -> list[Any]:
    return list_reply(header(), [(path, job_row(path)) for path in paths], follows, total=total)


@pytest.mark.parametrize(
    ("filters", "indexes"),
    [
        ((None, None, None), [b"jobs"]),
        (("", "", ""), [b"jobs"]),
        (("p", None, None), [b"project:p"]),
        (("p", None, "failed"), [b"project:p/status:failed"]),
        ((None, None, JobStatus.FAILED), [b"status:failed"]),
        ((None, "g", None), [b"group:g/status:" + status for status in STATUSES]),
        ((None, "g", "failed"), [b"group:g/status:failed"]),
        (("p", "g", None), [b"project:p/group:g/status:" + status for status in STATUSES]),
        (("p", "g", "failed"), [b"project:p/group:g/status:failed"]),
    ],
)
def test_list_all_jobs_filters_name_the_indexes(
    filters: tuple[Any, Any, Any], indexes: list[bytes]
) -> None:
    heard = tell(
        listing.list_all_jobs(make_source(), Filters.of(*filters), 100), page_of(ONE, OTHER)
    )
    assert heard.steps[0].keys == (KEY + b"meta", *(KEY + index for index in indexes))
    assert paths_of(heard.value.value) == [ONE, OTHER]


@pytest.mark.parametrize("names", [("a/b", None), (None, ".."), ("a\0", "g"), ("p", "\ud800")])
def test_list_all_jobs_of_impossible_names_is_empty_and_reads_no_index(
    names: tuple[Any, Any],
) -> None:
    for query in (
        listing.list_all_jobs(make_source(), Filters.of(*names), 100),
        listing.get_job_runs(make_source(), names[0] or "p", names[1] or "g", "n"),
    ):
        heard = tell(query, [header()])
        assert heard.value.value == []
        assert heard.steps[0].keys == (KEY + b"meta",)


def test_page_of_impossible_names_has_no_jobs_no_cursor_and_total_0() -> None:
    page = tell(listing.page(make_source(), Filters.of("a/b"), 10, None), [header()]).value.value
    assert (page.jobs, page.cursor, page.total) == ([], None, 0)
    assert page.freshness.generation == 7


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (lambda source: listing.list_all_jobs(source, ANY, -1), "limit=-1"),
        (lambda source: listing.get_recent_jobs(source, 24, -1), "limit=-1"),
        (lambda source: listing.get_recent_jobs(source, -1, 50), "hours=-1"),
        (lambda source: listing.get_recent_jobs(source, math.nan, 50), "hours=nan"),
        (lambda source: listing.page(source, ANY, 0, None), "limit=0"),
        (lambda source: listing.page(source, ANY, LARGEST_PAGE + 1, None), "limit=1001"),
        (lambda source: listing.page(source, ANY, 1, "x"), "cursor='x'"),
    ],
)
def test_listing_bad_argument_is_a_value_error_before_anything_is_asked(
    query: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tell(query(make_source()))


@pytest.mark.parametrize(("follows", "has_more"), [(b"more", True), (b"none", False)])
def test_page_has_a_cursor_only_if_something_follows(follows: bytes, has_more: bool) -> None:
    reply = page_of(ONE, OTHER, total=9, follows=follows)
    page = tell(listing.page(make_source(), ANY, 2, None), reply).value.value
    assert page.total == 9
    if has_more:
        assert Cursor.read(page.cursor, ANY.digest) == Cursor(b"%d" % NOW, OTHER)
    else:
        assert page.cursor is None


@pytest.mark.parametrize("limit", [CHUNK + 1, LARGEST_PAGE])
def test_page_longer_than_a_step_takes_several(limit: int) -> None:
    some = [b"p/g/n/%d" % number for number in range(limit)]
    replies = [
        page_of(*some[start : start + CHUNK], total=5000, follows=b"more")
        for start in range(0, limit, CHUNK)
    ]
    page = tell(listing.page(make_source(8 << 20), ANY, limit, None), *replies).value.value
    assert paths_of(page.jobs) == some
    assert page.total == 5000
    assert Cursor.read(page.cursor, ANY.digest).member == some[-1]


def test_page_behind_a_cursor_is_asked_for_by_score_and_member() -> None:
    cursor = Cursor(b"12.5", ONE).show(ANY.digest)
    heard = tell(listing.page(make_source(), ANY, 10, cursor), page_of(OTHER))
    assert heard.args[0][3:6] == (10, b"12.5", ONE)
    assert paths_of(heard.value.value.jobs) == [OTHER]


@pytest.mark.parametrize(
    "other", [{"project": "q"}, {"order": "activity"}, {"text": "x"}, {"status": ["failed"]}]
)
def test_page_cursor_of_other_filters_is_a_value_error(other: dict[str, Any]) -> None:
    cursor = Cursor(b"12.5", ONE).show(Filters.of("p").digest)
    with pytest.raises(ValueError, match=r"cursor=.*: it was made by a page with other filters"):
        tell(listing.page(make_source(), Filters.of(**{"project": "p", **other}), 10, cursor))


def test_page_answers_are_remembered_for_each_cursor_and_limit() -> None:
    source = make_source()
    cursor = Cursor(b"12.5", ONE).show(ANY.digest)
    tell(listing.page(source, ANY, 10, None), page_of(ONE))
    for limit, after in ((10, cursor), (9, None)):
        heard = tell(listing.page(source, ANY, limit, after), page_of(OTHER))
        assert heard.args[0][:3] == (b"", 0, b""), "nothing is known of it yet"
    same = tell(listing.page(source, ANY, 10, None), [header()])
    assert same.args[0][:3] == (b"1.5", 7, b"1")
    assert paths_of(same.value.value.jobs) == [ONE]


def test_get_job_runs_reads_run_ids_and_makes_paths_of_them() -> None:
    reply = list_reply(header(), [(b"1", job_row(ONE))], total=1)
    heard = tell(listing.get_job_runs(make_source(), "p", "g", "n"), reply)
    assert heard.steps[0].keys == (KEY + b"meta", KEY + b"runs:p/g/n")
    assert heard.args[0][8] == b"p/g/n/"
    assert paths_of(heard.value.value) == [ONE]


@pytest.mark.parametrize(
    ("hours", "after"),
    [(24, b"ago:86400.0"), (0, b"ago:0.0"), (0.5, b"ago:1800.0"), (1e308, b"")],
)
def test_get_recent_jobs_window_is_in_seconds(hours: float, after: bytes) -> None:
    heard = tell(listing.get_recent_jobs(make_source(), hours, 50), page_of(ONE))
    assert heard.args[0][6:8] == (after, b"")
    assert heard.args[0][3] == 50
