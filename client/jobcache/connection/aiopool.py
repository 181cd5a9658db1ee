"""``Pool`` for asyncio: the connections of one event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from jobcache.connection.attempt import PoolExhaustedError, is_worth_another
from jobcache.connection.connections import abandon, abort
from jobcache.plans.plan import Ask, AskAll

FAREWELL = 0.2
"""Seconds that closing may take where it takes an exchange, as over TLS."""


class AsyncPool:
    """As ``Pool``; a task that is cancelled leaves no connection behind on which a reply may still come."""

    def __init__(self, make_connection: Callable[[], Any], size: int) -> None:
        self.make_connection = make_connection
        self.size = size
        self._permits = asyncio.Semaphore(size)
        self._idle: list[Any] = []
        self._busy: set[Any] = set()
        self._round = 0

    async def acquire(self, seconds: float) -> None:
        """Take one of the ``size`` permits to have a connection.

        Raises:
            PoolExhaustedError: none came free in so many seconds.
        """
        if not self._permits.locked():
            await self._permits.acquire()  # at once
            return
        try:
            async with asyncio.timeout(seconds):
                await self._permits.acquire()
        except TimeoutError:
            raise PoolExhaustedError(self.size) from None

    def release(self) -> None:
        """Give the permit back."""
        self._permits.release()

    async def exchange(self, step: Ask | AskAll, ends: float) -> Any:
        """Send a command and return the reply, or several and the list of replies; for who has a permit.

        Args:
            step: what to send.
            ends: when all of it must be over, on the monotonic clock.

        Raises:
            redis.RedisError, OSError: what became of it.
        """
        now = self._round
        connection, fresh = (
            (self._idle.pop(), False) if self._idle else (self.make_connection(), True)
        )
        connection.budget.ends = ends
        self._busy.add(connection)
        is_clean = False
        try:
            async with asyncio.timeout(ends - time.monotonic()):
                reply = await self._ask(connection, fresh, step)
            is_clean = True
            return reply
        except ResponseError:
            is_clean = True
            raise
        finally:
            self._busy.discard(connection)
            if is_clean and now == self._round:
                self._idle.append(connection)
            else:
                abort(connection)

    async def _ask(self, connection: Any, fresh: bool, step: Ask | AskAll) -> Any:
        try:
            return await _converse(connection, step)
        except RedisConnectionError as error:
            abort(connection)
            if not is_worth_another(error, fresh):
                raise
        return await _converse(connection, step)

    async def close(self) -> None:
        """Close the idle connections now, those in use when their exchange is over. Later ones are new."""
        self._round += 1
        idle, self._idle = self._idle, []
        for connection in idle:
            try:
                with suppress(RedisError, OSError):
                    async with asyncio.timeout(FAREWELL):
                        await connection.disconnect()
            finally:
                abort(connection)

    def drop(self) -> None:
        """Close the idle connections without a word."""
        self._round += 1
        idle, self._idle = self._idle, []
        for connection in idle:
            abort(connection)

    def abandon(self, *, shared: bool) -> None:
        """Give up every connection, since the event loop is closed, or is the parent's (``shared``)."""
        for connection in [*self._idle, *self._busy]:
            abandon(connection, shared=shared)
        self._idle = []


async def _converse(connection: Any, step: Ask | AskAll) -> Any:
    if isinstance(step, Ask):
        await connection.send_command(*step.args, check_health=False)
        return await connection.read_response()
    packed = connection.pack_commands(step.commands)
    await connection.send_packed_command(packed, check_health=False)
    replies: list[Any] = []
    refusal: ResponseError | None = None
    for _ in step.commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:  # the other replies come all the same
            refusal = refusal or error
    if refusal is not None:
        raise refusal
    return replies
