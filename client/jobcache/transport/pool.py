"""A bounded pool of connections for any number of threads, where every exchange keeps to its budget."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self

from redis.exceptions import ResponseError

from jobcache.schema.scripts import Command
from jobcache.times import Clock
from jobcache.transport.attempt import (
    KEPT_FOR,
    LEAST_TIME,
    REFUSALS,
    PoolExhaustedError,
    plan_tries,
)


class Pool:
    """At most ``size`` connections, made when they are needed; the one used last is used first.

    Whatever ends an exchange but its reply closes the connection, so that none is kept on which a reply may still
    come. For one process; another must not use it. Nothing is held while I/O is done, and nothing locks.

    Args:
        make_connection: makes one that is not connected yet.
        size: most connections.
        clock: seconds on a monotonic clock.
    """

    def __init__(
        self, make_connection: Callable[[], Any], size: int, clock: Clock = time.monotonic
    ) -> None:
        self.make_connection = make_connection
        self.size = size
        self.clock = clock
        self._permits: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(size):
            self._permits.put(None)
        self._idle: deque[tuple[Any, float]] = deque()
        """Connections that nobody uses, each with when it was last used on the monotonic clock."""
        self._round = 0

    def exchange(
        self, command: Command, ends: float, begin: Callable[[], None] = lambda: None
    ) -> Any:
        """Wait for a connection that is free, send a command and return the reply.

        If a connection that was kept turns out to be closed, dead, or at a server that is not in charge any more, the
        command is sent once more, on a new one.

        Args:
            command: what to send.
            ends: when all of it must be over, on the monotonic clock.
            begin: called right before the command is sent; it may raise.

        Raises:
            PoolExhaustedError: no connection came free in time.
            redis.RedisError, OSError: what became of the command.
        """
        self._acquire(ends)
        try:
            begin()
            return self._exchange(command, ends)
        finally:
            self._permits.put(None)

    def wire(self, seconds: float) -> Wire:
        """A connection of one's own, for several commands that only read and travel together.

        Args:
            seconds: that sending, and each reply, may take.
        """
        return Wire(self, seconds)

    def close(self) -> None:
        """Close the idle connections now, those in use when their exchange is over. Later ones are new."""
        self._round += 1
        self._close_idle()

    def lend(self, ends: float) -> tuple[Any, int]:
        """Give a connection away until ``take_back``; returns it, and the round that it belongs to."""
        self._acquire(ends)
        return self._take()[0], self._round

    def take_back(self, connection: Any, since: int) -> None:
        """Take a connection back that was lent."""
        self._keep(connection, since)
        self._permits.put(None)

    def _acquire(self, ends: float) -> None:
        try:
            self._permits.get(timeout=max(0.0, ends - self.clock() - LEAST_TIME))
        except queue.Empty:
            raise PoolExhaustedError(self.size) from None

    def _exchange(self, command: Command, ends: float) -> Any:
        now = self._round
        connection, unused_for = self._take()
        tries = plan_tries(unused_for, self.clock(), ends)
        for connection.budget.ends, retry in tries:
            try:
                connection.send_command(*command, check_health=False)
                reply = connection.read_response()
            except ResponseError:
                self._keep(connection, now)
                raise
            except retry as error:
                connection.disconnect()
                if isinstance(error, REFUSALS):
                    raise
                self.close()  # the others lead where this one did
                now = self._round
            except BaseException:
                connection.disconnect()
                raise
            else:
                self._keep(connection, now)
                return reply
        raise AssertionError("the last try returns or raises")

    def _take(self) -> tuple[Any, float | None]:
        """A connection, and for how many seconds nobody used it; None for a new one."""
        try:
            connection, used_at = self._idle.pop()
        except IndexError:
            return self.make_connection(), None
        unused_for = self.clock() - used_at
        if unused_for <= KEPT_FOR:
            return connection, unused_for
        connection.disconnect()
        self._close_idle()  # they have been unused for longer
        return self.make_connection(), None

    def _keep(self, connection: Any, since: int) -> None:
        self._idle.append((connection, self.clock()))
        if since != self._round:  # also when it was closed just now
            self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop()[0].disconnect()


class Wire:
    """``with pool.wire(...) as wire``: commands are sent without waiting for the replies before them.

    Raises:
        PoolExhaustedError: on entering, when no connection came free in time.
        redis.RedisError, OSError: from ``send`` and ``receive``. The connection is not used any more then.
    """

    def __init__(self, pool: Pool, seconds: float) -> None:
        self._pool = pool
        self._seconds = seconds
        self._connection: Any = None
        self._round = 0
        self.under_way = 0
        """Replies that are still to come."""

    def __enter__(self) -> Self:
        self._connection, self._round = self._pool.lend(self._pool.clock() + self._seconds)
        return self

    def send(self, commands: Sequence[Command]) -> None:
        """Send some commands."""
        connection = self._connection
        connection.budget.ends = self._pool.clock() + self._seconds
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        self.under_way += len(commands)

    def receive(self) -> Any:
        """The next reply."""
        self._connection.budget.ends = self._pool.clock() + self._seconds
        try:
            reply = self._connection.read_response()
        except ResponseError:
            self.under_way -= 1
            raise
        self.under_way -= 1
        return reply

    def __exit__(self, *failure: object) -> None:
        if self.under_way:  # replies are on their way that nobody waits for
            self._connection.disconnect()
        self._pool.take_back(self._connection, self._round)
