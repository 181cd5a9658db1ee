"""One exchange as the breaker sees it: whether it may be tried, and what its end says of the server."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeAlias

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobcache.times import Clock
from jobcache.transport.breaker import Breaker, OutageError


class PoolExhaustedError(Exception):
    """Every connection was in use for as long as there was time; says nothing of the server."""

    def __init__(self, size: int) -> None:
        super().__init__(f"no connection came free in time: all {size} are in use")


class NotInChargeError(RedisConnectionError):
    """Another server has taken over: connect anew."""


FAILURES = (RedisError, OSError, OutageError, PoolExhaustedError)
"""What the I/O of a call may raise."""

REFUSALS = (ResponseError, AuthenticationError, AuthorizationError)
"""What a server says of a command or of a user; redis-py counts some of it among lost connections."""
ANSWERS = (*REFUSALS, BusyLoadingError)
"""What a server says that shows that it is there."""
_TIMEOUTS = (RedisTimeoutError, TimeoutError)
_OUTAGES = (RedisConnectionError, OSError)


TRUSTED_FOR = 1.0
"""Seconds for which a connection that was just used is trusted wholly.

After that, a load balancer or a firewall may have forgotten it without a word, so that nothing which is sent ever
arrives. An exchange waits for such a connection for half of its time only, and then goes on with a new one.
"""
KEPT_FOR = 30.0
"""Seconds after which a connection that nobody used is not used any more; most networks forget flows later."""

LEAST_TIME = 0.005
"""Seconds that must be left for an exchange when a connection comes free."""

Try: TypeAlias = tuple[float, tuple[type[Exception], ...]]
"""When a try must be over, on the monotonic clock, and the errors after which there is another one."""


def plan_tries(unused_for: float | None, now: float, ends: float) -> tuple[Try, ...]:
    """How often a command is sent, and for how long each time: once, and again if the connection was to blame.

    Args:
        unused_for: seconds since the connection was last used; None for one that was made for this command.
        now: the time on the monotonic clock.
        ends: when all of it must be over.
    """
    last: Try = (ends, ())
    if unused_for is None:
        return (ends, (NotInChargeError,)), last
    # A server that says on a kept connection that it loads follows another one by now: one that restarts keeps none.
    if unused_for <= TRUSTED_FOR:
        return (ends, (RedisConnectionError,)), last
    return ((now + ends) / 2, (RedisConnectionError, *_TIMEOUTS)), last


def describe(error: BaseException) -> str:
    """What an error says to a person."""
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else repr(error))


class Attempt:
    """Around an exchange: ``with Attempt(breaker, ...) as attempt``.

    Args:
        breaker: what is known of the server.
        least_wait: seconds. A timeout counts as a failure of the server only if the call waited at least this long; a
            call whose time was nearly over waited less.
        drop: closes idle connections. If one got no answer, the others may get none either, and each would cost a
            deadline.
        clock: seconds on a monotonic clock.

    Raises:
        OutageError: on entering, when the server is away.
    """

    __slots__ = ("_asked_at", "_breaker", "_clock", "_drop", "_least_wait", "_ticket")

    def __init__(
        self,
        breaker: Breaker,
        least_wait: float,
        drop: Callable[[], None],
        clock: Clock = time.monotonic,
    ) -> None:
        self._breaker = breaker
        self._least_wait = least_wait
        self._drop = drop
        self._clock = clock
        self._ticket: object | None = None
        self._asked_at = 0.0

    def __enter__(self) -> Self:
        self._ticket = self._breaker.enter()
        return self

    def begin(self) -> None:
        """Right before asking, after having waited for one's turn.

        Raises:
            OutageError: the server was found to be away meanwhile.
        """
        self._breaker.recheck(self._ticket)
        self._asked_at = self._clock()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, ANSWERS):
            self._breaker.succeeded()
        elif isinstance(error, _TIMEOUTS):
            if self._clock() - self._asked_at < self._least_wait:
                self._breaker.left(self._ticket)
            else:
                self._breaker.failed(self._ticket, describe(error), silently=True)
                self._drop()
        elif isinstance(error, NotInChargeError):
            self._breaker.left(self._ticket)  # it answered, and readers may still be served
        elif isinstance(error, _OUTAGES):
            self._breaker.failed(self._ticket, describe(error))
        else:
            self._breaker.left(self._ticket)
