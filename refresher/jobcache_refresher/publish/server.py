"""The refresher's own connection: longer deadlines than a web worker's, and errors by what they mean here."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from itertools import islice
from typing import Any, TypeAlias

from redis.exceptions import NoScriptError, ResponseError

from jobcache.schema.scripts import Command, Script
from jobcache.transport.connect import make_pool
from jobcache.transport.endpoint import Endpoint
from jobcache.transport.pool import Wire

DEADLINE = 5.0
"""Seconds that one exchange may take."""
MOST_CONNECTIONS = 8
"""One for each thread that may be at it: scans, publication, requests, the lease."""
STEPS_AHEAD = 2
"""Steps of a stream that the server has before it while a reply is taken in."""

Args: TypeAlias = Sequence[bytes | str | float]


class FencedError(Exception):
    """The lease is another's or gone: nothing was written.

    Args:
        why: for people.
        with_the_cache: whether all that the namespace held went with it.
    """

    def __init__(self, why: str, *, with_the_cache: bool = False) -> None:
        super().__init__(why)
        self.with_the_cache = with_the_cache


class EpochError(Exception):
    """The cache is not the one that was built: nothing was written."""


class Server:
    """A Redis server that runs scripts. For any number of threads."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.shown = endpoint.shown
        self._pool = make_pool(endpoint, size=MOST_CONNECTIONS)

    def run(self, script: Script, keys: Sequence[bytes], args: Args) -> Any:
        """Run a script in one step.

        Raises:
            FencedError, EpochError: the script refused.
            redis.RedisError, OSError: the server did not answer, or refused.
        """
        rest = (len(keys), *keys, *args)
        try:
            try:
                return self.ask(b"EVALSHA", script.sha, *rest)
            except NoScriptError:
                return self.ask(b"EVAL", script.source, *rest)
        except ResponseError as error:
            raise meaning_of(error, script) from None

    def stream(
        self, script: Script, keys: Sequence[bytes], steps: Iterable[Args]
    ) -> Generator[Any, None, None]:
        """Run a script that only reads once for the arguments of each step; yields the replies in order.

        While a reply is taken in, the server is at the steps that follow.

        Raises:
            EpochError, redis.RedisError, OSError: as ``run``.
        """
        remaining = iter(steps)
        head: Command = (b"EVALSHA", script.sha, len(keys), *keys)
        asked: deque[Args] = deque()
        # The first step by itself, so that the server knows the script when several are under way.
        for args in islice(remaining, 1):
            first = self.run(script, keys, args)
            with self._pool.wire(DEADLINE) as wire:
                asked.extend(islice(remaining, STEPS_AHEAD))
                wire.send([(*head, *args) for args in asked])
                yield first
                while asked:
                    reply = self._receive(wire, script, keys, asked.popleft())
                    # Now: the server does not send while it runs a script.
                    for args in islice(remaining, 1):
                        asked.append(args)
                        wire.send([(*head, *args)])
                    yield reply

    def _receive(self, wire: Wire, script: Script, keys: Sequence[bytes], args: Args) -> Any:
        try:
            return wire.receive()
        except NoScriptError:  # somebody made the server forget it
            return self.run(script, keys, args)
        except ResponseError as error:
            raise meaning_of(error, script) from None

    def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """Send plain commands that only read, together; returns their replies.

        Raises:
            redis.RedisError, OSError: the server did not answer, or refused one of them.
        """
        with self._pool.wire(DEADLINE) as wire:
            wire.send(commands)
            return [wire.receive() for _ in commands]

    def ask(self, *command: bytes | str | float) -> Any:
        """Send one plain command; the reply as the server gives it.

        Raises:
            redis.RedisError, OSError: the server did not answer, or refused.
        """
        return self._pool.exchange(command, time.monotonic() + DEADLINE)

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


def meaning_of(error: ResponseError, script: Script) -> Exception:
    """What an error that a script raised says."""
    message = str(error)
    code, _, why = message.partition(" ")
    match code:
        case "FENCED":
            return FencedError(why)
        case "FLUSHED":
            return FencedError(why, with_the_cache=True)
        case "EPOCH":
            return EpochError(why)
    if "WRONGTYPE" in message:
        return EpochError(f"{script.name}: a key is of a wrong type")
    return error
