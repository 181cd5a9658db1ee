"""A bounded pool of connections for any number of threads, where every exchange keeps to its budget."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from jobcache.connection.attempt import PoolExhaustedError, is_worth_another
from jobcache.plans.plan import Command


class Pool:
    """At most ``size`` connections, made when they are needed; the one used last is used first.

    Whatever ends an exchange but its reply closes the connection, so that none is kept on which a reply may still
    come. For one process; another must not use it. Nothing is held while I/O is done, and nothing locks.
    """

    def __init__(self, make_connection: Callable[[], Any], size: int) -> None:
        self.make_connection = make_connection
        self.size = size
        self._permits: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(size):
            self._permits.put(None)
        self._idle: deque[Any] = deque()
        self._round = 0

    def exchange(self, command: Command, ends: float, begin: Callable[[], None]) -> Any:
        """Wait for a connection that is free, send a command and return the reply.

        Args:
            command: what to send.
            ends: when all of it must be over, on the monotonic clock.
            begin: called right before the command is sent; it may raise.

        Raises:
            PoolExhaustedError: no connection came free in time.
            redis.RedisError, OSError: what became of the command.
        """
        try:
            self._permits.get(timeout=max(0.0, ends - time.monotonic()))
        except queue.Empty:
            raise PoolExhaustedError(self.size) from None
        try:
            begin()
            return self._exchange(command, ends)
        finally:
            self._permits.put(None)

    def _exchange(self, command: Command, ends: float) -> Any:
        now = self._round
        try:
            connection, fresh = self._idle.pop(), False
        except IndexError:
            connection, fresh = self.make_connection(), True
        again = True
        while True:
            try:
                connection.budget.ends = ends
                connection.send_command(*command, check_health=False)
                reply = connection.read_response()
            except ResponseError:
                self._keep(connection, now)
                raise
            except RedisConnectionError as error:
                connection.disconnect()
                if not (again and is_worth_another(error, fresh)):
                    raise
                again, fresh = False, True
            except BaseException:
                connection.disconnect()
                raise
            else:
                self._keep(connection, now)
                return reply

    def close(self) -> None:
        """Close the idle connections now, those in use when their exchange is over. Later ones are new."""
        self._round += 1
        self._close_idle()

    def _keep(self, connection: Any, since: int) -> None:
        self._idle.append(connection)
        if since != self._round:  # also when it was closed just now
            self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().disconnect()
