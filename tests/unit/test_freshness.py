"""Whether the cache may be answered from, and waiting until it may."""

from __future__ import annotations

from typing import Any

import pytest

from jobcache import CacheNotReady, CacheState, SchemaMismatch
from jobcache.queries.freshness import freshness, meta, nothing, wait_until_ready
from jobcache.queries.query import Pause
from tests.unit.replies import header, make_source, tell

BUILDING = [header(state="building")]
READY = [header()]


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, CacheState.READY),
        ({"state": "building"}, CacheState.BUILDING),
        ({"state": None, "schema": None}, CacheState.ABSENT),
        ({"state": "degraded"}, CacheState.DEGRADED),
    ],
)
def test_freshness_of_a_cache_that_is_not_ready_is_told(
    fields: dict[str, Any], state: CacheState
) -> None:
    assert tell(freshness(make_source()), [header(**fields)]).value.state is state


def test_freshness_of_another_schema_raises() -> None:
    with pytest.raises(SchemaMismatch):
        tell(freshness(make_source()), [header(schema=99)])


def test_nothing_is_answered_only_if_the_cache_is_ready() -> None:
    assert tell(nothing(make_source()), READY).value.value == []
    with pytest.raises(CacheNotReady):
        tell(nothing(make_source()), BUILDING)


def test_wait_until_ready_looks_again_until_it_is() -> None:
    heard = tell(wait_until_ready(make_source(), 10.0), BUILDING, 0.1, BUILDING, 0.2, READY)
    assert heard.value.state is CacheState.READY
    assert heard.steps[1] == heard.steps[3] == Pause(0.1)


@pytest.mark.parametrize(
    ("timeout", "replies", "message"),
    [
        (0.0, [BUILDING], r"first scan of .* at redis://h$"),
        (0.05, [BUILDING, 0.05, BUILDING], r"\(waited 0\.05 s\)$"),
    ],
)
def test_wait_until_ready_gives_up_in_time_and_says_why(
    timeout: float, replies: list[Any], message: str
) -> None:
    with pytest.raises(CacheNotReady, match=message):
        tell(wait_until_ready(make_source(), timeout), *replies)


def test_wait_until_ready_pauses_no_longer_than_it_may_wait() -> None:
    heard = tell(wait_until_ready(make_source(), 0.15), BUILDING, 0.1, BUILDING, 0.15, READY)
    assert [step.seconds for step in heard.steps if isinstance(step, Pause)] == pytest.approx(
        [0.1, 0.05]
    )


def test_meta_is_text() -> None:
    heard = tell(meta(make_source()), [b"status_dir", b"/\xff", b"jobs", b"3"])
    assert heard.value == {"status_dir": "/\uefff", "jobs": "3"}
