"""A web worker with `JobCache`."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from redis.connection import AbstractConnection

from jobcache import JobCache
from jobcache.schema.keys import Keys
from jobcache.transport.connect import make_pool
from jobcache.transport.endpoint import Endpoint
from tests.bench.measure import take_samples
from tests.bench.roles import idle

DEADLINE = 30.0
"""Seconds; beyond any time that is measured."""


class Role(idle.Role):
    """Answers queries when it is told to."""

    def __init__(self, url: str, namespace: str) -> None:
        self._url = url
        self._namespace = namespace
        self._cache = self._connect()
        self._bare = make_pool(Endpoint.find(url), size=8)

    def renew(self) -> None:
        """Go on with a client that is connected and holds nothing yet."""
        self._cache.close()
        self._cache = self._connect()

    def time(self, method: str, arguments: dict[str, Any], repeat: int, number: int) -> list[float]:
        """Samples of a query, in seconds a call."""
        return take_samples(self._call(method, arguments), repeat=repeat, number=number)

    def time_after_writes(self, method: str, arguments: dict[str, Any], repeat: int) -> list[float]:
        """The same, each right after something was written that the answer does not hold."""
        call = self._call(method, arguments)
        samples: list[float] = []
        for _ in range(repeat):
            self.write()
            samples += take_samples(call)
        return samples

    def write(self) -> None:
        """Have the cache be of another generation, as any write does."""
        self._ask("HINCRBY", Keys(self._namespace).meta, "generation", 1)

    def ping(self, repeat: int) -> list[float]:
        """Samples of a PING on a connection like the client's, in seconds."""
        return take_samples(lambda: self._ask("PING"), repeat=repeat)

    def size(self, method: str, arguments: dict[str, Any]) -> int:
        """How many jobs or projects a query answers with."""
        answer = self._call(method, arguments)()
        return len(answer) if isinstance(answer, list) else 1

    def round_trips(self, method: str, arguments: dict[str, Any]) -> int:
        """Do a query once: how often it wrote to a connection."""
        send = AbstractConnection.send_packed_command
        sent = 0

        def count(*args: Any, **options: Any) -> None:
            nonlocal sent
            sent += 1
            send(*args, **options)  # type: ignore[no-untyped-call]

        AbstractConnection.send_packed_command = count  # type: ignore[method-assign]
        try:
            self._call(method, arguments)()
        finally:
            AbstractConnection.send_packed_command = send  # type: ignore[method-assign]
        return sent

    def _ask(self, *command: bytes | str | int) -> Any:
        return self._bare.exchange(command, time.monotonic() + DEADLINE)

    def _connect(self) -> JobCache:
        cache = JobCache(self._url, namespace=self._namespace, deadline=DEADLINE)
        cache.freshness()
        return cache

    def _call(self, method: str, arguments: dict[str, Any]) -> Callable[[], Any]:
        return partial(getattr(self._cache, method), **arguments)
