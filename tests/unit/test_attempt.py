"""How often a command is sent and for how long, and what the end of an exchange says of the server."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoScriptError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobcache.transport.attempt import (
    TRUSTED_FOR,
    Attempt,
    NotInChargeError,
    PoolExhaustedError,
    describe,
    plan_tries,
)
from jobcache.transport.breaker import Breaker, OutageError
from tests.unit.test_breaker import Time

NOW, ENDS = 100.0, 104.0
LOST = (RedisConnectionError,)


@pytest.mark.parametrize(
    ("unused_for", "first_ends", "again_after"),
    [
        (None, ENDS, (NotInChargeError,)),
        (0.0, ENDS, LOST),
        (TRUSTED_FOR, ENDS, LOST),
        (TRUSTED_FOR + 0.01, 102.0, (*LOST, RedisTimeoutError, TimeoutError)),
    ],
)
def test_plan_tries_connection_that_was_kept_may_be_to_blame(
    unused_for: float | None, first_ends: float, again_after: Any
) -> None:
    first, last = plan_tries(unused_for, NOW, ENDS)
    assert first == (first_ends, again_after)
    assert last == (ENDS, ())


class NotedBreaker:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.refuses = False

    def enter(self) -> str:
        return "ticket"

    def recheck(self, ticket: object) -> None:
        if self.refuses:
            raise OutageError("away")

    def succeeded(self) -> None:
        self.told.append("succeeded")

    def failed(self, ticket: object, why: str, *, silently: bool = False) -> None:
        assert ticket == "ticket"
        self.told.append("waited in vain" if silently else "failed")

    def left(self, ticket: object) -> None:
        assert ticket == "ticket"
        self.told.append("left")


@pytest.mark.parametrize(
    ("error", "waited", "told"),
    [
        (None, 0.1, ["succeeded"]),
        (ResponseError("ERR"), 0.1, ["succeeded"]),
        (NoScriptError("NOSCRIPT"), 0.1, ["succeeded"]),
        (AuthenticationError("WRONGPASS"), 0.1, ["succeeded"]),
        (AuthorizationError("NOPERM"), 0.1, ["succeeded"]),
        (BusyLoadingError("LOADING"), 0.1, ["succeeded"]),
        (RedisTimeoutError("late"), 0.5, ["waited in vain", "dropped"]),
        (TimeoutError(), 0.5, ["waited in vain", "dropped"]),
        (RedisTimeoutError("late"), 0.4, ["left"]),
        (NotInChargeError("moved"), 0.1, ["left"]),
        (RedisConnectionError("reset"), 0.1, ["failed"]),
        (OSError("no route"), 0.1, ["failed"]),
        (PoolExhaustedError(8), 0.5, ["left"]),
        (asyncio.CancelledError(), 0.5, ["left"]),
        (KeyboardInterrupt(), 0.5, ["left"]),
    ],
)
def test_attempt_end_tells_the_breaker_what_it_says_of_the_server(
    error: BaseException | None, waited: float, told: list[str]
) -> None:
    breaker, time = NotedBreaker(), Time()
    attempt = Attempt(
        cast(Breaker, cast(Any, breaker)), 0.5, lambda: breaker.told.append("dropped"), time
    )
    time.now += 9  # waiting for a connection does not count
    attempt.__enter__()
    attempt.begin()
    time.now += waited
    attempt.__exit__(None if error is None else type(error), error, None)
    assert breaker.told == told


def test_attempt_that_may_not_begin_says_nothing_of_the_server() -> None:
    breaker = NotedBreaker()
    breaker.refuses = True
    with (
        pytest.raises(OutageError),
        Attempt(cast(Breaker, cast(Any, breaker)), 0.5, lambda: None) as attempt,
    ):
        attempt.begin()
    assert breaker.told == ["left"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(5, "no"), "[Errno 5] no"),
        (TimeoutError(), "no answer in time"),
        (ValueError(), "ValueError()"),
    ],
)
def test_describe_error_without_words_has_some(error: Exception, text: str) -> None:
    assert describe(error) == text
