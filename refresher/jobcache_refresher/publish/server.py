"""The refresher's own connection: longer deadlines than a web worker's, and errors by what they mean here."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from itertools import islice
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from jobcache.connection.connect import connect
from jobcache.connection.endpoint import Endpoint
from jobcache.plans.scripts import Script

DEADLINE = 5.0
"""Seconds that one exchange may take."""
STEPS_AHEAD = 2
"""Steps of a stream that the server has before it while a reply is taken in."""

Args = Sequence[bytes | str | float]


class FencedError(Exception):
    """The lease is another's or gone: nothing was written."""

    @property
    def with_the_cache(self) -> bool:
        """Whether all that the namespace held went with it."""
        return str(self).endswith("and so is the cache")


class EpochError(Exception):
    """The cache is not the one that was built: nothing was written."""


class Server:
    """A Redis server that runs scripts."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.shown = endpoint.shown
        self.redis = connect(endpoint, deadline=DEADLINE, max_connections=4)

    def run(self, script: Script, keys: Sequence[bytes], args: Args) -> Any:
        """Run a script in one step.

        Raises:
            FencedError, EpochError: the script refused.
            redis.RedisError: the server did.
        """
        rest = (len(keys), *keys, *args)
        try:
            try:
                return self.redis.execute_command(b"EVALSHA", script.sha, *rest)
            except NoScriptError:
                return self.redis.execute_command(b"EVAL", script.source, *rest)
        except ResponseError as error:
            raise _meaning(error, script) from None

    def stream(
        self, script: Script, keys: Sequence[bytes], steps: Iterable[Args]
    ) -> Generator[Any, None, None]:
        """Run a script that only reads once for the arguments of each step; yields the replies in order.

        While a reply is taken in, the server is at the steps that follow.

        Raises:
            EpochError, redis.RedisError: as ``run``.
        """
        remaining = iter(steps)
        pool = self.redis.connection_pool
        connection = pool.get_connection()
        asked: deque[Args] = deque()

        def ask(several: int) -> None:
            for args in islice(remaining, several):
                asked.append(args)
                connection.send_command(b"EVALSHA", script.sha, len(keys), *keys, *args)

        try:
            # Alone, so that the server knows the script when several are under way.
            for args in islice(remaining, 1):
                reply = self.run(script, keys, args)
                ask(STEPS_AHEAD)
                yield reply
            while asked:
                reply = self._receive(connection, script, keys, asked)
                ask(1)  # now: the server does not send while it runs a script
                yield reply
        finally:
            if asked:  # replies are on their way that nobody waits for
                connection.disconnect()
            pool.release(connection)

    def _receive(
        self, connection: Any, script: Script, keys: Sequence[bytes], asked: deque[Args]
    ) -> Any:
        try:
            reply = connection.read_response()
        except NoScriptError:
            reply = self.run(script, keys, asked[0])
        except ResponseError as error:
            raise _meaning(error, script) from None
        asked.popleft()
        return reply

    def ask(self, *command: bytes | str | float) -> Any:
        """Send one plain command; the reply as the server gives it."""
        return self.redis.execute_command(*command)

    def close(self) -> None:
        """Close every connection."""
        self.redis.connection_pool.disconnect()


def _meaning(error: ResponseError, script: Script) -> Exception:
    """What an error that a script raised says."""
    message = str(error)
    if message.startswith("FENCED"):
        return FencedError(message.removeprefix("FENCED "))
    if message.startswith("EPOCH"):
        return EpochError(message.removeprefix("EPOCH "))
    if "WRONGTYPE" in message:
        return EpochError(f"{script.name}: a key is of a wrong type")
    return error
