"""A bounded pool of connections for any number of threads, where every exchange keeps to its budget."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from jobcache.connection.attempt import PoolExhaustedError, is_worth_another
from jobcache.plans.plan import Ask, AskAll, Command


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

    def acquire(self, seconds: float) -> None:
        """Take one of the ``size`` permits to have a connection.

        Raises:
            PoolExhaustedError: none came free in so many seconds.
        """
        try:
            self._permits.get(timeout=max(0.0, seconds))
        except queue.Empty:
            raise PoolExhaustedError(self.size) from None

    def release(self) -> None:
        """Give the permit back."""
        self._permits.put(None)

    def exchange(self, step: Ask | AskAll, ends: float) -> Any:
        """Send a command and return the reply, or several and the list of replies; for who has a permit.

        Args:
            step: what to send.
            ends: when all of it must be over, on the monotonic clock.

        Raises:
            redis.RedisError, OSError: what became of it.
        """
        now = self._round
        try:
            connection, fresh = self._idle.pop(), False
        except IndexError:
            connection, fresh = self.make_connection(), True
        again = True
        while True:
            try:
                connection.budget.ends = ends
                if isinstance(step, Ask):
                    connection.send_command(*step.args, check_health=False)
                    reply = connection.read_response()
                else:
                    reply = _ask_all(connection, step.commands)
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


def _ask_all(connection: Any, commands: Sequence[Command]) -> list[Any]:
    connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    replies: list[Any] = []
    refusal: ResponseError | None = None
    for _ in commands:
        try:
            replies.append(connection.read_response())
        except ResponseError as error:  # the other replies come all the same
            refusal = refusal or error
    if refusal is not None:
        raise refusal
    return replies
