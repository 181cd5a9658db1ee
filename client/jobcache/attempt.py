"""One exchange as the breaker sees it: whether it may be tried, and what its end says of the server."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobcache.breaker import Breaker, OutageError


class PoolExhaustedError(Exception):
    """Every connection was in use for as long as there was time; says nothing of the server."""

    def __init__(self, size: int) -> None:
        super().__init__(f"no connection came free in time: all {size} are in use")


class NotInChargeError(RedisConnectionError):
    """Another server has taken over: connect anew."""


FAILURES = (RedisError, OSError, OutageError, PoolExhaustedError)
"""What the I/O of a conversation may raise."""

_ANSWERS = (ResponseError, AuthenticationError, AuthorizationError, BusyLoadingError)
"""What a server says; redis-py counts some of it among lost connections."""
_OUTAGES = (RedisConnectionError, RedisTimeoutError, OSError)


def is_worth_another(error: RedisConnectionError, is_fresh: bool) -> bool:
    """Whether to try once more: on a connection that was kept and may have been closed meanwhile, or elsewhere."""
    if isinstance(error, NotInChargeError):
        return True
    return not is_fresh and not isinstance(error, _ANSWERS)


def describe(error: BaseException) -> str:
    """What an error says to a person."""
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else repr(error))


class Attempt:
    """Around an exchange: ``with Attempt(breaker) as attempt``.

    Raises:
        OutageError: on entering, when the server is away.
    """

    __slots__ = ("_breaker", "_ticket")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._ticket: object | None = None

    def __enter__(self) -> Self:
        self._ticket = self._breaker.enter()
        return self

    def recheck(self) -> None:
        """After having waited for one's turn.

        Raises:
            OutageError: the server was found to be away meanwhile.
        """
        self._breaker.recheck(self._ticket)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, _ANSWERS):
            self._breaker.succeeded()
        elif isinstance(error, _OUTAGES):
            self._breaker.failed(self._ticket, describe(error))
        else:
            self._breaker.left(self._ticket)
