"""What a caller's filters, order and limits mean, and which are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from jobcache import JobStatus
from jobcache.queries.filters import (
    MOST_TEXT,
    MOST_VALUES,
    STATUS_WORDS,
    UNLIMITED,
    Filters,
    Order,
    Span,
    check_limit,
    read_time,
)

NOON = datetime(2026, 2, 4, 12, tzinfo=UTC)
RUNNING, FAILED = JobStatus.RUNNING, JobStatus.FAILED


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"project": None, "group": None, "status": None, "text": None, "order": None},
        {"project": "", "group": "", "status": "", "text": "", "order": ""},
        {"project": [""], "group": ("", ""), "status": {""}, "text": " \t\n "},
        {"status": list(JobStatus)},
        {"status": STATUS_WORDS},
        {"status": ["live", "stale", "completed", "failed", "preempted", "unknown"]},
        {"order": "started"},
    ],
)
def test_filters_empty_text_and_every_status_are_no_filter(given: dict[str, Any]) -> None:
    assert Filters.of(**given) == Filters()
    assert Filters.of(**given).digest == Filters().digest


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("p", {"p"}),
        (["p"], {"p"}),
        (["p", "q", "p", ""], {"p", "q"}),
        (("p", "a/b", ".."), {"p"}),
        ({"p"}, {"p"}),
        (frozenset({"p", "q"}), {"p", "q"}),
        (["\udcff", "\uefff"], {"\uefff"}),
    ],
)
@pytest.mark.parametrize("name", ["project", "group"])
def test_filters_names_are_a_set_of_what_is_handed_out(
    name: str, given: Any, meant: set[str]
) -> None:
    found = Filters.of(**{name: given})
    assert getattr(found, f"{name}s") == meant
    assert found.can_match


@pytest.mark.parametrize(
    "given",
    [
        {"project": []},
        {"group": ()},
        {"status": set()},
        {"project": "a/b"},
        {"group": ["..", "a\0"]},
        {"project": "p", "group": "\ud800"},
        {"text": "a \ud800"},
    ],
)
def test_filters_empty_sequence_or_impossible_name_matches_nothing(given: dict[str, Any]) -> None:
    assert not Filters.of(**given).can_match


@pytest.mark.parametrize(
    ("words", "statuses", "fresh"),
    [
        ("failed", {FAILED}, None),
        (FAILED, {FAILED}, None),
        (["failed", "running"], {FAILED, RUNNING}, None),
        ("live", {RUNNING}, True),
        ("stale", {RUNNING}, False),
        (["live", "stale"], {RUNNING}, None),
        (["live", "running"], {RUNNING}, None),
        (["stale", RUNNING], {RUNNING}, None),
        (["stale", "failed"], {RUNNING, FAILED}, False),
        (["live", "completed", "failed", "preempted", "unknown"], set(JobStatus), True),
    ],
)
def test_filters_live_and_stale_are_running_ones_with_and_without_a_fresh_heartbeat(
    words: Any, statuses: set[JobStatus], fresh: bool | None
) -> None:
    found = Filters.of(status=words)
    assert found.statuses == frozenset(statuses)
    assert found.fresh is fresh


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Vit  BASE\tvit", {b"vit", b"base"}),
        ("\u00c4B", {"\u00c4b".encode()}),
        ("p/G", {b"p/g"}),
        ("\uefff", {b"\xff"}),
    ],
)
def test_filters_text_is_words_in_ascii_lower_case(text: str, words: set[bytes]) -> None:
    assert Filters.of(text=text).words == words


@pytest.mark.parametrize(
    ("time", "bound"),
    [
        (None, b""),
        (NOON, repr(NOON.timestamp()).encode()),
        (NOON.astimezone(timezone(timedelta(hours=2))), repr(NOON.timestamp()).encode()),
        (timedelta(hours=24), b"ago:86400.0"),
        (timedelta(), b"ago:0.0"),
        (datetime.min.replace(tzinfo=UTC), b"-62135596800.0"),
        (datetime.max.replace(tzinfo=UTC), b"253402300800.0"),
    ],
)
def test_filters_times_are_epoch_seconds_or_before_the_last_scan(time: Any, bound: bytes) -> None:
    found = Filters.of(started_after=time, active_before=time)
    assert (found.started, found.active) == (Span(after=bound), Span(before=bound))
    assert Filters.of(started_before=time).started == Span(before=bound)
    assert Filters.of(active_after=time).active == Span(after=bound)


def test_filters_order_is_by_start_unless_it_is_by_activity() -> None:
    assert Filters.of().order is Order.STARTED
    assert Filters.of(order="activity").order is Order.ACTIVITY


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"status": "FAILED"}, r"status='FAILED': use one of running, .*, unknown, live, stale"),
        ({"status": ["failed", " live"]}, r"status=' live'"),
        ({"order": "name"}, "order='name': use started or activity"),
        ({"started_after": datetime(2026, 2, 4)}, "started_after=.*: use a datetime with a zone"),
        ({"active_before": datetime(2026, 2, 4)}, "active_before=.*: use a datetime with a zone"),
        ({"started_before": timedelta(-1)}, "started_before=.*: use a timedelta from 0"),
        ({"text": "x" * (MOST_TEXT + 1)}, "text: 1001 characters; use at most 1000"),
        ({"project": ["p"] * (MOST_VALUES + 1)}, "project: 101 values; use at most 100"),
    ],
)
def test_filters_unusable_value_is_a_value_error_that_names_the_argument(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Filters.of(**given)


@pytest.mark.parametrize("name", ["project", "group", "status"])
@pytest.mark.parametrize("value", [0, b"x", {}, object(), [1], [None], ["a", b"b"], 1.5, True])
def test_filters_wrong_type_is_a_type_error_that_names_the_argument(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=name):
        Filters.of(**{name: value})


@pytest.mark.parametrize("name", ["started_after", "active_before", "text", "order"])
@pytest.mark.parametrize("value", [0, b"x", {}, ["a"], True])
def test_filters_wrong_type_of_a_single_value_is_a_type_error(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=name):
        Filters.of(**{name: value})


def test_filters_digest_is_of_the_meaning() -> None:
    one = Filters.of(["p", "q"], status=["failed", "live"], text="A b")
    same = Filters.of(("q", "p", ""), status={"live", "failed"}, text="b  a A")
    assert (one, one.digest, hash(one)) == (same, same.digest, hash(same))
    others = [
        Filters.of("p"),
        Filters.of(group="p"),
        Filters.of(["p", "q"]),
        Filters.of([]),
        Filters.of(text="p"),
        Filters.of(status="running"),
        Filters.of(status="live"),
        Filters.of(status="stale"),
        Filters.of(order="activity"),
        Filters.of(started_after=NOON),
        Filters.of(started_before=NOON),
        Filters.of(active_after=NOON),
        Filters.of(active_before=NOON),
        Filters.of(started_after=timedelta(1)),
        Filters.of(),
    ]
    assert len({other.digest for other in others}) == len(others)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (None, None),
        ("", None),
        ("30m", timedelta(minutes=30)),
        ("24h", timedelta(hours=24)),
        ("7d", timedelta(days=7)),
        ("90s", timedelta(seconds=90)),
        ("2w", timedelta(weeks=2)),
        ("2026-02-04T12:00:00Z", NOON),
        ("2026-02-04 14:00+02:00", NOON),
    ],
)
def test_read_time_is_a_span_or_a_time_with_its_zone(text: str | None, time: Any) -> None:
    assert read_time("started_after", text) == time


@pytest.mark.parametrize(
    "text", ["2026-02-04", "2026-02-04T12:00:00", "yesterday", "1.5h", "-1h", "h", "9999999d", "1y"]
)
def test_read_time_of_anything_else_is_a_value_error_that_names_it(text: str) -> None:
    with pytest.raises(ValueError, match=f"started_after='{text}': use 30m, 24h or 7d, or a time"):
        read_time("started_after", text)


def test_span_since_infinitely_many_seconds_is_unlimited() -> None:
    assert Span.since(60) == Span(b"ago:60.0")
    assert Span.since(float("inf")) is not None
    assert Span.since(float("inf")) == UNLIMITED


@pytest.mark.parametrize("limit", [None, 0, 1, 10**9])
def test_check_limit_from_0_is_as_given(limit: int | None) -> None:
    assert check_limit(limit) is limit


def test_check_limit_negative_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="limit=-1: use None for all"):
        check_limit(-1)
