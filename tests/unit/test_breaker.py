"""The breaker, under a clock that the test sets."""

from __future__ import annotations

import threading

import pytest

from jobcache.transport.breaker import (
    FIRST_PAUSE,
    FIRST_PAUSE_AFTER_WAITING,
    LONGEST_PAUSE,
    Breaker,
    OutageError,
)


class Time:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def breaker(time: Time) -> Breaker:
    return Breaker(clock=time, jitter=lambda: 1.0)


def is_open(breaker: Breaker) -> bool:
    """Whether a call would fail at once."""
    try:
        breaker.left(breaker.enter())
    except OutageError:
        return True
    return False


def test_breaker_after_one_lost_connection_stays_closed(breaker: Breaker) -> None:
    for _ in range(5):
        breaker.failed(breaker.enter(), "reset")
        assert not is_open(breaker)
        breaker.succeeded()


def test_breaker_after_failures_in_a_row_opens(breaker: Breaker, time: Time) -> None:
    breaker.failed(breaker.enter(), "refused")
    time.now += 3
    breaker.failed(breaker.enter(), "still refused")
    with pytest.raises(OutageError, match=r"no answer for 3\.0 s \(still refused\).*in 0\.1 s"):
        breaker.enter()


def test_breaker_after_one_silence_opens(breaker: Breaker) -> None:
    breaker.failed(breaker.enter(), "hung", silently=True)
    assert is_open(breaker)


def test_breaker_open_lets_one_call_at_a_time_try(breaker: Breaker, time: Time) -> None:
    breaker.failed(breaker.enter(), "hung", silently=True)
    time.now += FIRST_PAUSE_AFTER_WAITING
    ticket = breaker.enter()
    assert ticket is not None
    with pytest.raises(OutageError, match="being asked again now"):
        breaker.enter()
    breaker.recheck(ticket)
    with pytest.raises(OutageError):
        breaker.recheck(None)
    breaker.succeeded()
    assert breaker.enter() is None
    breaker.recheck(None)


@pytest.mark.parametrize("silently", [True, False])
def test_breaker_pauses_grow_to_a_second_and_no_more(
    breaker: Breaker, time: Time, silently: bool
) -> None:
    for _ in range(2):
        breaker.failed(None, "away", silently=silently)
    pause = FIRST_PAUSE_AFTER_WAITING if silently else FIRST_PAUSE
    for _ in range(7):
        time.now += pause * 0.9
        assert is_open(breaker)
        time.now += pause * 0.11
        breaker.failed(breaker.enter(), "hung", silently=silently)
        pause = min(2 * pause, 1.0)
    assert pause == LONGEST_PAUSE


def test_breaker_pauses_are_jittered(time: Time) -> None:
    early = Breaker(clock=time, jitter=lambda: 0.0)
    early.failed(early.enter(), "hung", silently=True)
    time.now += FIRST_PAUSE_AFTER_WAITING / 2
    assert not is_open(early)


def test_breaker_try_without_a_verdict_lets_another_try(breaker: Breaker, time: Time) -> None:
    """As one whose task was cancelled."""
    breaker.failed(breaker.enter(), "hung", silently=True)
    time.now += FIRST_PAUSE_AFTER_WAITING
    breaker.left(breaker.enter())
    assert breaker.enter() is not None


def test_breaker_failure_of_a_call_under_way_changes_no_pause(breaker: Breaker, time: Time) -> None:
    early = [breaker.enter() for _ in range(3)]
    breaker.failed(early[0], "hung", silently=True)
    time.now += FIRST_PAUSE_AFTER_WAITING
    trying = breaker.enter()
    breaker.failed(early[1], "hung", silently=True)
    breaker.left(early[2])
    assert is_open(breaker)
    breaker.recheck(trying)


def test_breaker_after_any_answer_closes(breaker: Breaker) -> None:
    breaker.failed(None, "hung", silently=True)
    breaker.succeeded()
    assert not is_open(breaker)
    breaker.failed(None, "reset")
    assert not is_open(breaker)


def test_breaker_that_never_opens_lets_every_call_pass(time: Time) -> None:
    breaker = Breaker(opens=False, clock=time)
    for _ in range(5):
        breaker.failed(breaker.enter(), "hung", silently=True)
    assert not is_open(breaker)


def test_breaker_open_lets_one_of_many_threads_try(breaker: Breaker, time: Time) -> None:
    breaker.failed(None, "hung", silently=True)
    time.now += 10
    tickets: list[object | None] = []

    def enter() -> None:
        start.wait()
        try:
            tickets.append(breaker.enter())
        except OutageError:
            tickets.append(None)

    start = threading.Barrier(16)
    threads = [threading.Thread(target=enter) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(ticket is not None for ticket in tickets) == 1
