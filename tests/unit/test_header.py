"""What the header of an answer says of the cache: whether it may be answered from, and how fresh it is."""

from __future__ import annotations

from typing import Any

import pytest

from jobcache import CacheNotReady, CacheState, SchemaMismatch
from jobcache.schema.header import Header
from jobcache.schema.keys import SCHEMA_VERSION
from jobcache.times import from_epoch
from tests.unit.replies import NOW, STALE_AFTER, header

ABSENT = {"schema": None, "state": None, "completed_at": None}


def said(**fields: Any) -> Header:
    return Header(header(**fields))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({}, None, ""),
        ({"state": "degraded"}, None, ""),
        (ABSENT, CacheNotReady, "no refresher has written to here"),
        ({"state": "building"}, CacheNotReady, "has not completed its first scan of here"),
        ({"state": "of a later version"}, CacheNotReady, "first scan"),
        ({"schema": SCHEMA_VERSION + 1}, SchemaMismatch, f"version {SCHEMA_VERSION + 1}"),
        ({"schema": "x", "state": "building"}, SchemaMismatch, "schema version x"),
    ],
)
def test_header_require_ready_refuses_what_cannot_be_answered_from(
    fields: dict[str, Any], error: type[Exception] | None, message: str
) -> None:
    if error is None:
        assert said(**fields).require_ready("here").generation == 7
    else:
        with pytest.raises(error, match=message):
            said(**fields).require_ready("here")


def test_header_require_schema_takes_an_absent_cache() -> None:
    assert said(**ABSENT).require_schema("here").state is CacheState.ABSENT


OVERDUE = "the last scan completed 31 s ago, one is due every 10 s"


@pytest.mark.parametrize(
    ("fields", "state", "reason"),
    [
        ({}, "ready", None),
        ({"now": NOW + 30}, "ready", None),
        ({"now": NOW + 31}, "degraded", OVERDUE),
        ({"now": NOW + 31, "poll_interval": None}, "degraded", "the last scan completed 31 s ago"),
        ({"now": NOW + 31, "lease": b"none"}, "degraded", f"{OVERDUE}; no refresher leads"),
        ({"now": NOW + 31, "reason": "r"}, "degraded", f"r; {OVERDUE}"),
        # One that reports progress is slow, not overdue, if it leads.
        ({"now": NOW + 31, "reported_at": NOW + 1}, "ready", None),
        ({"now": NOW + 32, "reported_at": NOW + 1}, "degraded", OVERDUE.replace("31", "32")),
        (
            {"now": NOW + 31, "reported_at": NOW + 30, "lease": b"none"},
            "degraded",
            f"{OVERDUE}; no refresher leads",
        ),
        # What cannot be told is not said.
        ({"now": NOW + 999, "overdue_after": None}, "ready", None),
        ({"now": NOW + 999, "overdue_after": 0}, "ready", None),
        ({"now": NOW + 999, "overdue_after": "x"}, "ready", None),
        ({"now": NOW + 999, "completed_at": None}, "ready", None),
        ({"now": NOW + 999, "state": "building"}, "building", None),
        ({"reason": "r", "state": "degraded"}, "degraded", "r"),
    ],
)
def test_header_scan_that_is_overdue_makes_the_answer_degraded(
    fields: dict[str, Any], state: str, reason: str | None
) -> None:
    freshness = said(**fields).freshness
    assert (freshness.state.value, freshness.reason) == (state, reason)


@pytest.mark.parametrize(
    ("now", "completed_at", "age"),
    [(NOW + 5.25, NOW, 5.25), (NOW - 5, NOW, 0.0), (NOW, None, None)],
)
def test_header_age_is_by_the_servers_clock_and_never_negative(
    now: float, completed_at: float | None, age: float | None
) -> None:
    assert said(now=now, completed_at=completed_at).freshness.age == age


def test_header_as_of_judges_by_the_end_of_the_last_completed_scan() -> None:
    as_of = said(now=NOW + 9999).as_of
    assert (as_of.status_dir, as_of.fresh_since) == ("/s", NOW - STALE_AFTER)
    assert said(completed_at=None).as_of.fresh_since == -STALE_AFTER


def test_header_moment_is_epoch_and_generation() -> None:
    assert said().moment == said(completed_at=NOW + 1, now=NOW + 2).moment == (b"1.5", 7)
    assert said(generation=8).moment != said().moment != said(epoch="2.5").moment
    assert said(generation="x").generation == 0


@pytest.mark.parametrize("completed_at", [1700000000.25, None])
def test_header_as_of_is_the_end_of_the_last_completed_scan(completed_at: float | None) -> None:
    as_of = said(completed_at=completed_at).as_of
    assert as_of.completed_at == from_epoch(completed_at)
    if completed_at is not None:
        assert as_of.fresh_since == completed_at - STALE_AFTER
