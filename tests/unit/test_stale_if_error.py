"""Answers that are kept, and when they may stand in."""

from __future__ import annotations

import pytest

from jobcache.errors import CacheNotReady, CacheUnavailable, JobCacheError, SchemaMismatch
from jobcache.models import CacheState, Freshness
from jobcache.queries.answer import ANSWER_OVERHEAD, Answer, AnswerMetadata
from jobcache.queries.stale_if_error import MOST_ANSWERS, StaleIfError
from jobcache.schema.job import AsOf
from tests.unit.test_breaker import Time

AWAY = CacheUnavailable("away")


class NewMetadata:
    """Of an answer in some epoch, 2 s after a scan."""

    def __init__(self, epoch: bytes = b"1", reason: str | None = None) -> None:
        self.epoch = epoch
        self.reason = reason
        self.as_of = AsOf("/status", 0.0)

    @property
    def freshness(self) -> Freshness:
        return Freshness(
            state=CacheState.DEGRADED if self.reason else CacheState.READY,
            reason=self.reason,
            age=2.0,
            generation=7,
            epoch=self.epoch.decode(),
        )


def answer(value: list[int], epoch: bytes = b"1", reason: str | None = None) -> Answer[list[int]]:
    return Answer(lambda _: list(value), NewMetadata(epoch, reason))


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def kept(time: Time) -> StaleIfError:
    return StaleIfError(30, clock=time)


def test_stale_if_error_answer_stands_in_and_says_so(kept: StaleIfError, time: Time) -> None:
    kept.keep("q", answer([1, 2]), time.now)
    time.now += 10
    found = kept.stand_in("q", AWAY)
    assert found.value == [1, 2]
    fresh = found.header.freshness
    assert fresh.last_good
    assert (fresh.age, fresh.state, fresh.reason) == (12.0, CacheState.DEGRADED, "away")
    assert (fresh.generation, fresh.epoch) == (7, "1")


def test_stale_if_error_answer_that_was_degraded_says_that_as_well(
    kept: StaleIfError, time: Time
) -> None:
    kept.keep("q", answer([1], reason="the last scan completed 75 s ago"), time.now)
    reason = kept.stand_in("q", AWAY).header.freshness.reason
    assert reason == "away; before that: the last scan completed 75 s ago"


def test_stale_if_error_answer_that_a_caller_changes_stays_whole(
    kept: StaleIfError, time: Time
) -> None:
    kept.keep("q", answer([1]), time.now)
    kept.stand_in("q", AWAY).value.append(2)
    assert kept.stand_in("q", AWAY).value == [1]


def test_stale_if_error_answer_too_old_or_of_another_query_stays_out(
    kept: StaleIfError, time: Time
) -> None:
    kept.keep("q", answer([1]), time.now)
    time.now += 30
    assert kept.stand_in("q", AWAY).value == [1]
    time.now += 0.1
    for query in ("q", "other"):
        with pytest.raises(CacheUnavailable) as refused:
            kept.stand_in(query, AWAY)
        assert refused.value is AWAY


@pytest.mark.parametrize("error", [CacheNotReady("building"), SchemaMismatch("other")])
def test_stale_if_error_after_a_cache_without_data_has_nothing(
    kept: StaleIfError, time: Time, error: JobCacheError
) -> None:
    kept.keep("q", answer([1]), time.now)
    for then in (error, AWAY):
        with pytest.raises(type(then)):
            kept.stand_in("q", then)


def test_stale_if_error_answer_asked_for_before_a_forget_is_discarded(
    kept: StaleIfError, time: Time
) -> None:
    """As a listing by one thread, while another deletes a job."""
    asked = time.now
    time.now += 1
    kept.forget()
    kept.keep("q", answer([1]), asked)
    assert kept.find("q", "away") is None
    kept.keep("q", answer([1]), time.now + 1)
    assert kept.find("q", "away") is not None


def test_stale_if_error_answer_of_another_epoch_is_dropped(kept: StaleIfError, time: Time) -> None:
    kept.keep("q", answer([1]), time.now)
    kept.keep("other", answer([2], b"2"), time.now)
    assert kept.find("q", "away") is None
    assert kept.find("other", "away") is not None


def test_stale_if_error_drops_the_least_used_answer_first(kept: StaleIfError, time: Time) -> None:
    for number in range(MOST_ANSWERS):
        kept.keep(number, answer([number]), time.now)
    assert kept.find(0, "away") is not None
    kept.keep("new", answer([]), time.now)
    assert kept.find(0, "away") is not None
    assert kept.find(1, "away") is None


def test_stale_if_error_is_bounded_in_bytes(time: Time) -> None:
    kept = StaleIfError(30, clock=time, most_bytes=3 * ANSWER_OVERHEAD)
    for number in range(4):
        kept.keep(number, answer([number]), time.now)
        kept.keep(number, answer([number]), time.now)
    assert [kept.find(number, "") is not None for number in range(4)] == [False, True, True, True]
    too_small = StaleIfError(30, clock=time, most_bytes=ANSWER_OVERHEAD - 1)
    too_small.keep(3, answer([3]), time.now)
    assert too_small.find(3, "") is None


def test_stale_metadata_of_a_new_answer_is_not_last_good() -> None:
    metadata: AnswerMetadata = NewMetadata()
    assert not metadata.freshness.last_good
