"""Which answers of replicas count, under a clock that the test sets."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from jobcache.codec import JOB_FIELDS
from jobcache.connection.dialogue import ServerTraits
from jobcache.connection.guard import HEARING, LONGEST_UNHEARD, Guard
from jobcache.connection.replicas import Replicas, converse_with_all
from jobcache.plans.listing import ATTEMPTS
from jobcache.plans.plainreads import read_plainly
from jobcache.plans.plan import Ask, AtReplica, Plan, Run
from jobcache.plans.scripts import read_jobs_script, read_script
from tests.unit.test_breaker import Time

OLD, EPOCH, NEW = b"1700000000.000001", b"1700000000.000002", b"1700000001.000000"


def head(generation: int, epoch: bytes | None = EPOCH, state: bytes = b"ready") -> list[Any]:
    """A header as a script replies it; the server's clock differs each time."""
    now = [b"1", b"%d" % generation]
    return [b"2", epoch, b"%d" % generation, state, None, b"1.0", b"300", b"/d", now]


class Timed(Guard):
    def __init__(self, time: Time) -> None:
        super().__init__(clock=time, jitter=lambda: 1.0)

    def counts(self, told: list[Any]) -> bool:
        turn = self.enter()
        assert turn is not None, "no replica is asked"
        return self.admits(turn, told)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def guard(time: Time) -> Timed:
    """That has just heard of generation 10."""
    guard = Timed(time)
    guard.heard(head(10), time.now)
    return guard


def test_nothing_counts_before_the_primary_was_heard(time: Time) -> None:
    guard = Guard(clock=time)
    assert guard.enter() is None
    guard.heard(head(0, epoch=None), time.now)
    assert guard.enter() is None, "there is no cache yet"
    guard.heard(head(0, state=b"building"), time.now)
    assert guard.enter() is None, "it is not ready"
    guard.heard(head(1), time.now)
    assert guard.enter()


@pytest.mark.parametrize(
    ("told", "counts"),
    [
        (head(10), True),
        (head(11), True),
        (head(100), True),
        (head(9), False),
        (head(11, state=b"building"), False),
        (head(11, epoch=OLD), False),
        (head(11, epoch=NEW), False),
        (head(11, epoch=None), False),
        (head(10, state=b"degraded"), False),
    ],
)
def test_what_counts(guard: Timed, told: list[Any], counts: bool) -> None:
    assert guard.counts(told) is counts


def test_none_counts_that_is_older_than_another(guard: Timed) -> None:
    assert guard.counts(head(12))
    assert not guard.counts(head(11))
    assert guard.counts(head(12))


def test_an_own_write_counts_at_once(guard: Timed, time: Time) -> None:
    guard.heard(head(11), time.now)
    assert not guard.counts(head(10))
    assert guard.counts(head(11))


def test_one_query_a_second_is_the_primarys(guard: Timed, time: Time) -> None:
    time.now += HEARING - 0.01
    assert guard.enter()
    time.now += 0.01
    assert guard.enter() is None
    assert guard.enter(), "the others do not wait for it"
    guard.heard(head(10), time.now)
    time.now += HEARING - 0.01
    assert guard.enter()


def test_without_the_primarys_word_nothing_counts(guard: Timed, time: Time) -> None:
    time.now += LONGEST_UNHEARD
    assert guard.enter() is None
    assert guard.enter()
    time.now += 0.01
    for _ in range(3):
        assert guard.enter() is None
    guard.heard(head(10), time.now - LONGEST_UNHEARD - 1)
    assert guard.enter() is None, "an answer is as old as its question"
    guard.heard(head(10), time.now)
    assert guard.enter()


def test_answers_of_the_primary_that_overtake_each_other(guard: Timed, time: Time) -> None:
    asked = time.now
    time.now += 0.5
    guard.heard(head(20), time.now)
    guard.heard(head(15), asked)
    assert not guard.counts(head(15))
    guard.heard(head(3, epoch=NEW), asked)
    assert guard.counts(head(3, epoch=NEW)), "a newer epoch began meanwhile"
    guard.heard(head(30), asked)
    assert guard.counts(head(3, epoch=NEW)), "an older one is over"


def test_a_primary_whose_clock_goes_back(guard: Timed, time: Time) -> None:
    time.now += 0.1
    guard.heard(head(1, epoch=OLD), time.now)
    assert not guard.counts(head(10))
    assert guard.counts(head(1, epoch=OLD))


def test_what_the_refresher_says_between_two_generations(guard: Timed, time: Time) -> None:
    assert guard.counts(head(10))
    time.now += 0.1
    guard.heard(head(10, state=b"degraded"), time.now)
    assert not guard.counts(head(10))
    assert guard.counts(head(10, state=b"degraded"))


def test_replicas_that_lag_are_left_alone_for_a_while(guard: Timed, time: Time) -> None:
    for _ in range(2):
        turn = guard.enter()
        assert turn is not None
        assert not turn.anew
        assert not guard.admits(turn, head(9))
    assert guard.enter() is None
    time.now += 0.2
    turn = guard.enter()
    assert turn is not None
    assert turn.anew
    assert guard.enter() is None, "one tries"
    guard.left(turn)
    turn = guard.enter()
    assert turn is not None
    assert guard.admits(turn, head(10))
    assert guard.counts(head(10))


def plan() -> Plan[Any]:
    return (yield Run(read_script("freshness"), (b"meta",), renews=True))


def talk(guard: Guard, *replies: Any, reads: bool = True) -> tuple[list[str], Any]:
    """Who is asked, and the answer, when replies come or errors are met in turn."""
    steps = converse_with_all(plan(), ServerTraits(), Replicas(guard), reads=reads)
    asked = []
    try:
        step = next(steps)
        for reply in replies:
            assert isinstance(step, Ask | AtReplica)
            asked.append("replica" if isinstance(step, AtReplica) else "primary")
            assert step.renews == (len(asked) == 1), "one deadline is for both"
            step = steps.throw(reply) if isinstance(reply, Exception) else steps.send(reply)
    except StopIteration as stop:
        return asked, stop.value
    raise AssertionError("it goes on")


def test_who_is_asked(guard: Timed) -> None:
    fresh, old = [head(10)], [head(9)]
    assert talk(guard, fresh) == (["replica"], fresh)
    assert talk(guard, fresh, reads=False) == (["primary"], fresh)
    assert talk(guard, old, fresh) == (["replica", "primary"], fresh)


@pytest.mark.parametrize(
    "error",
    [
        RedisConnectionError("refused"),
        TimeoutError(),
        BusyLoadingError("LOADING"),
        ResponseError("MASTERDOWN Link with MASTER is down"),
    ],
)
def test_a_replica_that_gives_nothing(guard: Timed, error: Exception) -> None:
    assert talk(guard, error, [head(11)]) == (["replica", "primary"], [head(11)])
    assert not guard.counts(head(10))


def test_a_primary_that_gives_nothing(time: Time) -> None:
    guard = Guard(clock=time)
    with pytest.raises(TimeoutError):
        talk(guard, TimeoutError())
    assert guard.enter() is None


def test_plain_commands_that_meet_two_replicas() -> None:
    """What follows a header must not be older, also where an answer out of several generations would do."""
    reading = read_plainly(Run(read_jobs_script("job"), (b"meta", b"job"), (b"",)))
    *fields, now = head(10)
    row = [b"10", *(None for _ in JOB_FIELDS)]
    step = next(reading)
    for _ in range(2 * ATTEMPTS):
        assert len(step.commands) == 5
        step = reading.send([fields, b"string", now, row, [EPOCH, b"9"]])
    with pytest.raises(StopIteration):
        reading.send([fields, b"string", now, row, [EPOCH, b"11"]])
