"""``Pool`` for asyncio: the connections of one event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError, ResponseError

from jobcache.schema.scripts import Command
from jobcache.times import Clock
from jobcache.transport.attempt import (
    KEPT_FOR,
    LEAST_TIME,
    REFUSALS,
    PoolExhaustedError,
    plan_tries,
)
from jobcache.transport.private import abandon, abort

FAREWELL = 0.2
"""Seconds that closing may take where it takes an exchange, as over TLS."""


class AsyncPool:
    """As ``Pool``; a task that is cancelled leaves no connection behind on which a reply may still come."""

    def __init__(
        self, make_connection: Callable[[], Any], size: int, clock: Clock = time.monotonic
    ) -> None:
        self.make_connection = make_connection
        self.size = size
        self._clock = clock
        self._permits = asyncio.Semaphore(size)
        self._idle: list[tuple[Any, float]] = []
        self._busy: set[Any] = set()
        self._round = 0

    async def exchange(self, command: Command, ends: float, begin: Callable[[], None]) -> Any:
        """As ``Pool.exchange``."""
        await self._acquire(ends)
        try:
            begin()
            return await self._exchange(command, ends)
        finally:
            self._permits.release()

    async def _acquire(self, ends: float) -> None:
        if not self._permits.locked():
            await self._permits.acquire()  # at once
            return
        try:
            # A moment less, so that whoever waited has time for an exchange, or is told what it waited for.
            async with asyncio.timeout(ends - self._clock() - LEAST_TIME):
                await self._permits.acquire()
        except TimeoutError:
            raise PoolExhaustedError(self.size) from None

    async def _exchange(self, command: Command, ends: float) -> Any:
        now = self._round
        connection, unused_for = self._take()
        self._busy.add(connection)
        is_clean = False
        try:
            for try_ends, retry in plan_tries(unused_for, self._clock(), ends):
                connection.budget.ends = try_ends
                try:
                    async with asyncio.timeout(try_ends - self._clock()):
                        await connection.send_command(*command, check_health=False)
                        reply = await connection.read_response()
                except ResponseError:
                    is_clean = True
                    raise
                except retry as error:
                    abort(connection)
                    if isinstance(error, REFUSALS):
                        raise
                    self.drop()  # the others lead where this one did
                    now = self._round
                else:
                    is_clean = True
                    return reply
            raise AssertionError("the last try returns or raises")
        finally:
            self._busy.discard(connection)
            if is_clean and now == self._round:
                self._idle.append((connection, self._clock()))
            else:
                abort(connection)

    def _take(self) -> tuple[Any, float | None]:
        """As ``Pool._take``."""
        if not self._idle:
            return self.make_connection(), None
        connection, used_at = self._idle.pop()
        unused_for = self._clock() - used_at
        if unused_for <= KEPT_FOR:
            return connection, unused_for
        abort(connection)
        self.drop()  # they have been unused for longer
        return self.make_connection(), None

    async def close(self) -> None:
        """Close the idle connections now, those in use when their exchange is over. Later ones are new."""
        self._round += 1
        idle, self._idle = self._idle, []
        for connection, _ in idle:
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
        for connection, _ in idle:
            abort(connection)

    def abandon(self, *, shared: bool) -> None:
        """Give up every connection, since the event loop is closed, or is the parent's (``shared``)."""
        for connection in [*(one for one, _ in self._idle), *self._busy]:
            abandon(connection, shared=shared)
        self._idle = []
