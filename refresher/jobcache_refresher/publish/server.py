"""The refresher's own connection: longer deadlines than a web worker's, and errors by what they mean here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from jobcache.connection.connect import connect
from jobcache.connection.endpoint import Endpoint
from jobcache.plans.scripts import Script

DEADLINE = 5.0
"""Seconds that one exchange may take."""


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

    def run(
        self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | str | float]
    ) -> Any:
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
            message = str(error)
            if message.startswith("FENCED"):
                raise FencedError(message.removeprefix("FENCED ")) from None
            if message.startswith("EPOCH"):
                raise EpochError(message.removeprefix("EPOCH ")) from None
            if "WRONGTYPE" in message:
                raise EpochError(f"{script.name}: a key is of a wrong type") from None
            raise

    def ask(self, *command: bytes | str | float) -> Any:
        """Send one plain command; the reply as the server gives it."""
        return self.redis.execute_command(*command)

    def close(self) -> None:
        """Close every connection."""
        self.redis.connection_pool.disconnect()
