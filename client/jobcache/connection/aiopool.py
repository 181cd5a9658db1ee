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
from jobcache.plans.plan import Command

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

    async def exchange(self, command: Command, ends: float, begin: Callable[[], None]) -> Any:
        """As ``Pool.exchange``."""
        await self._acquire(ends - time.monotonic())
        try:
            begin()
            return await self._exchange(command, ends)
        finally:
            self._permits.release()

    async def _acquire(self, seconds: float) -> None:
        if not self._permits.locked():
            await self._permits.acquire()  # at once
            return
        try:
            async with asyncio.timeout(seconds):
                await self._permits.acquire()
        except TimeoutError:
            raise PoolExhaustedError(self.size) from None

    async def _exchange(self, command: Command, ends: float) -> Any:
        now = self._round
        connection, fresh = (
            (self._idle.pop(), False) if self._idle else (self.make_connection(), True)
        )
        connection.budget.ends = ends
        self._busy.add(connection)
        is_clean = False
        try:
            async with asyncio.timeout(ends - time.monotonic()):
                reply = await self._ask(connection, fresh, command)
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

    async def _ask(self, connection: Any, fresh: bool, command: Command) -> Any:
        try:
            return await _converse(connection, command)
        except RedisConnectionError as error:
            abort(connection)
            if not is_worth_another(error, fresh):
                raise
        return await _converse(connection, command)

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


async def _converse(connection: Any, command: Command) -> Any:
    await connection.send_command(*command, check_health=False)
    return await connection.read_response()
