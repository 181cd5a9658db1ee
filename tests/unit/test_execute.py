"""One call of a client, step by step: deadlines, scripts by their hash, what errors mean, and stale-if-error."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

from jobcache import CacheNotReady, CacheState, CacheUnavailable
from jobcache.queries.answer import Answer
from jobcache.queries.query import Ask, Pause, Query, Run
from jobcache.queries.source import Source
from jobcache.queries.stale_if_error import StaleIfError
from jobcache.schema.header import Header
from jobcache.schema.scripts import Script
from jobcache.transport.attempt import FAILURES, PoolExhaustedError
from jobcache.transport.breaker import Breaker, OutageError
from jobcache.transport.drive import drive
from jobcache.transport.execute import Exchange, Executor, LastAnswer, Sleep
from tests.unit.replies import WHERE, header, make_source
from tests.unit.test_breaker import Time

DEADLINE = 1.0


def script(*, read_only: bool = True) -> Script:
    return Script("s", "return 1", hashlib.sha1(b"return 1").hexdigest(), read_only)


class Caller:
    """An executor, and a server that replies as it is told."""

    def __init__(self, *, stale_if_error: float | None = None) -> None:
        self.time = Time()
        self.observed: list[Any] = []
        self.last_good = None if stale_if_error is None else StaleIfError(stale_if_error, self.time)
        self.breaker = Breaker(clock=self.time)
        self.executor = Executor(
            make_source(),
            deadline=DEADLINE,
            breaker=self.breaker,
            last_good=self.last_good,
            on_exchange=lambda command, reply: self.observed.append((command, reply)),
            clock=self.time,
        )
        self.last = LastAnswer()
        self.exchanges: list[Exchange] = []
        self.slept: list[float] = []
        self.dropped = 0
        self.reply: Callable[[tuple[Any, ...]], Any] = lambda command: b"reply"
        """Replies to a command; an error is raised."""
        self.each_takes = 0.0
        """Seconds."""

    @property
    def verbs(self) -> list[Any]:
        return [exchange.command[0] for exchange in self.exchanges]

    def do(self, step: Exchange | Sleep) -> Any:
        if isinstance(step, Sleep):
            self.slept.append(step.seconds)
            self.time.now += step.seconds
            return None
        self.exchanges.append(step)
        step.begin()
        self.time.now += self.each_takes
        reply = self.reply(step.command)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def drop(self) -> None:
        self.dropped += 1

    def run(self, query: Query[Any]) -> Any:
        return drive(self.executor.run(query, self.drop), self.do, FAILURES)

    def read(self, query: Any, *args: Any) -> Any:
        return drive(self.executor.read(query, args, self.last, self.drop), self.do, FAILURES)

    def write(self, query: Query[Any]) -> Any:
        return drive(self.executor.write(query, self.last, self.drop), self.do, FAILURES)


@pytest.fixture
def caller() -> Caller:
    return Caller()


def ask_in_turn(*steps: Any) -> Query[list[Any]]:
    heard = []
    for step in steps:
        heard.append((yield step))
    return heard


def ask_once(source: Source, value: Any = 1) -> Query[Answer[Any]]:
    yield Ask((b"GET", value))
    return Answer(lambda _: value, Header(header()))


def test_run_all_steps_of_a_query_share_one_deadline(caller: Caller) -> None:
    caller.each_takes = 0.3
    ends = caller.time() + DEADLINE
    assert caller.run(ask_in_turn(Ask((b"A",)), Ask((b"B",)))) == [b"reply", b"reply"]
    assert [exchange.ends for exchange in caller.exchanges] == [ends, ends]
    assert caller.observed == [((b"A",), b"reply"), ((b"B",), b"reply")]


@pytest.mark.parametrize(
    "renewing", [Ask((b"B",), renews=True), Run(script(), (), (), renews=True)]
)
def test_run_step_that_renews_begins_a_deadline_of_its_own(caller: Caller, renewing: Any) -> None:
    caller.each_takes = 0.3
    began = caller.time()
    caller.run(ask_in_turn(Ask((b"A",)), renewing, Ask((b"C",))))
    assert [exchange.ends - began for exchange in caller.exchanges] == pytest.approx(
        [DEADLINE, 0.3 + DEADLINE, 0.3 + DEADLINE]
    )


def test_run_pause_is_slept_and_tells_the_time_since_the_query_began(caller: Caller) -> None:
    caller.each_takes = 0.3
    began = caller.time()
    heard = caller.run(ask_in_turn(Ask((b"A",)), Pause(2.0), Pause(1.0), Ask((b"B",))))
    assert heard[1:3] == pytest.approx([2.3, 3.3])
    assert caller.slept == [2.0, 1.0]
    assert caller.exchanges[1].ends - began == pytest.approx(3.3 + DEADLINE)


@pytest.mark.parametrize(
    ("read_only", "verbs"),
    [(True, [b"EVALSHA_RO", b"EVAL_RO"]), (False, [b"EVALSHA", b"EVAL"])],
)
def test_run_script_that_the_server_does_not_know_is_sent_by_its_text(
    caller: Caller, read_only: bool, verbs: list[bytes]
) -> None:
    one = script(read_only=read_only)
    caller.reply = lambda command: NoScriptError("NOSCRIPT") if command[1] == one.sha else 1
    assert caller.run(ask_in_turn(Run(one, (b"k", b"l"), (b"a",)))) == [1]
    assert [exchange.command for exchange in caller.exchanges] == [
        (verbs[0], one.sha, 2, b"k", b"l", b"a"),
        (verbs[1], one.source, 2, b"k", b"l", b"a"),
    ]


def test_run_script_that_is_not_known_by_its_text_either_is_unavailable(caller: Caller) -> None:
    caller.reply = lambda command: NoScriptError("NOSCRIPT")
    with pytest.raises(CacheUnavailable):
        caller.run(ask_in_turn(Run(script(), ())))
    assert len(caller.exchanges) == 2


@pytest.mark.parametrize("words", ["unknown command 'EVALSHA_RO'", "Unsupported command"])
def test_run_server_without_read_only_scripts_is_asked_once(caller: Caller, words: str) -> None:
    caller.reply = lambda command: ResponseError(words) if command[0].endswith(b"_RO") else 1
    for _ in range(2):
        assert caller.run(ask_in_turn(Run(script(), ()))) == [1]
    assert caller.verbs == [b"EVALSHA_RO", b"EVALSHA", b"EVALSHA"]


def test_run_other_error_of_a_script_is_not_asked_again(caller: Caller) -> None:
    caller.reply = lambda command: ResponseError("ERR unknown command is not how it begins")
    with pytest.raises(CacheUnavailable):
        caller.run(ask_in_turn(Run(script(), ())))
    assert caller.verbs == [b"EVALSHA_RO"]


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (RedisConnectionError("reset"), "reset"),
        (OSError("no route"), "no route"),
        (TimeoutError(), "no answer in time"),
        (PoolExhaustedError(3), "all 3 are in use"),
        (OutageError("no answer for 3 s"), "no answer for 3 s"),
        (ResponseError("ERR"), "ERR"),
        (NoPermissionError("cannot run 'hget'"), "cannot run 'hget'$"),
        (
            NoPermissionError("cannot run 'evalsha_ro'"),
            r"grant this user \+evalsha_ro and \+eval_ro",
        ),
        (
            ResponseError("ERR 'EVAL' is not allowed"),
            "which this server or a proxy before it refuses",
        ),
    ],
)
def test_run_error_is_unavailable_and_says_where_and_what(
    caller: Caller, error: Exception, meaning: str
) -> None:
    caller.reply = lambda command: error
    with pytest.raises(CacheUnavailable, match=f"^{WHERE}: .*{meaning}") as caught:
        caller.run(ask_in_turn(Ask((b"A",))))
    assert caught.value.__cause__ is error
    assert caller.observed == []


def test_run_error_of_the_query_itself_is_raised_as_it_is(caller: Caller) -> None:
    def refuse() -> Query[None]:
        yield Ask((b"A",))
        raise CacheNotReady("building")

    with pytest.raises(CacheNotReady):
        caller.run(refuse())


@pytest.mark.parametrize(("waited", "is_open"), [(0.5, True), (0.4, False)])
def test_run_silence_counts_once_half_of_a_deadline_was_waited(
    caller: Caller, waited: float, is_open: bool
) -> None:
    caller.each_takes = waited
    caller.reply = lambda command: TimeoutError()
    with pytest.raises(CacheUnavailable):
        caller.run(ask_in_turn(Ask((b"A",))))
    assert caller.dropped == is_open
    with pytest.raises(CacheUnavailable):
        caller.run(ask_in_turn(Ask((b"A",))))
    assert len(caller.exchanges) == (1 if is_open else 2)


def test_read_answer_says_how_fresh_it_is(caller: Caller) -> None:
    before, value, after = caller.last.freshness, caller.read(ask_once, 5), caller.last.freshness
    assert (before, value) == (None, 5)
    assert after is not None
    assert after.generation == 7


def test_read_without_stale_if_error_raises(caller: Caller) -> None:
    caller.read(ask_once)
    caller.reply = lambda command: RedisConnectionError("away")
    with pytest.raises(CacheUnavailable):
        caller.read(ask_once)


@pytest.mark.parametrize(("age", "stands_in"), [(30.0, True), (31.0, False)])
def test_read_last_good_answer_stands_in_for_one_that_fails(age: float, stands_in: bool) -> None:
    caller = Caller(stale_if_error=30)
    assert caller.read(ask_once, 5) == 5
    caller.time.now += age
    caller.reply = lambda command: RedisConnectionError("away")
    if stands_in:
        assert caller.read(ask_once, 5) == 5
        told = caller.last.freshness
        assert told is not None
        assert (told.state, told.last_good) == (CacheState.DEGRADED, True)
        assert f"{WHERE}: away" in (told.reason or "")
    else:
        with pytest.raises(CacheUnavailable):
            caller.read(ask_once, 5)
    with pytest.raises(CacheUnavailable):
        caller.read(ask_once, 6)  # of other arguments nothing is known


def test_read_last_good_answer_counts_from_when_it_was_asked_for() -> None:
    caller = Caller(stale_if_error=30)
    caller.each_takes = 5.0
    caller.read(ask_once)
    caller.time.now += 26
    caller.each_takes = 0.0
    caller.reply = lambda command: RedisConnectionError("away")
    with pytest.raises(CacheUnavailable):
        caller.read(ask_once)


def test_write_forgets_the_last_good_answers() -> None:
    caller = Caller(stale_if_error=30)
    caller.read(ask_once)
    caller.time.now += 1
    assert caller.write(ask_once(make_source(), 9)) == 9
    caller.reply = lambda command: RedisConnectionError("away")
    with pytest.raises(CacheUnavailable):
        caller.read(ask_once)


def test_write_that_fails_is_unavailable_and_nothing_stands_in() -> None:
    caller = Caller(stale_if_error=30)
    caller.read(ask_once)
    caller.reply = lambda command: RedisConnectionError("away")
    with pytest.raises(CacheUnavailable):
        caller.write(ask_once(make_source()))
    assert caller.read(ask_once) == 1
