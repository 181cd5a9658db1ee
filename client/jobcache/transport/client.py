"""What both clients have in common: their arguments, and what each process has of them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from jobcache.arguments import NUMBER, require_type
from jobcache.errors import ConfigError
from jobcache.models import Freshness
from jobcache.queries.parsed_jobs import ParsedJobCache
from jobcache.queries.source import Source
from jobcache.queries.stale_if_error import StaleIfError, check_stale_if_error
from jobcache.schema.keys import Keys, find_namespace
from jobcache.transport.breaker import Breaker
from jobcache.transport.budget import check_deadline
from jobcache.transport.connect import pool_size
from jobcache.transport.endpoint import Endpoint
from jobcache.transport.execute import Executor, LastAnswer, Observer
from jobcache.transport.process import PerProcess

REPLICA_URL_VARIABLE = "JOBCACHE_REDIS_REPLICA_URL"
"""What named replicas to read from before that was removed."""


class Connected(ABC):
    """What one process has of a client's connections, and knows of its server.

    Args:
        endpoint: where the server is.
        size: most connections of a pool.
        executor: turns queries into what has to be done.
    """

    def __init__(self, endpoint: Endpoint, size: int, executor: Executor) -> None:
        self.executor = executor

    @abstractmethod
    def abandon(self) -> None:
        """Let go of the parent's connections, in a child."""


C = TypeVar("C", bound=Connected)


class Client(Generic[C]):
    """What both clients are made of; ``JobCache`` says what each argument means.

    Raises:
        ConfigError: one of them cannot be used.
    """

    _connected: type[C]

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str | None = None,
        deadline: float = 1.0,
        ready_timeout: float = 10.0,
        max_connections: int = 8,
        memo_bytes: int = 8 << 20,
        password_file: str | None = None,
        breaker: bool = True,
        stale_if_error: float | None = None,
        on_exchange: Observer | None = None,
        replica_url: str | None = None,
    ) -> None:
        for name, value in (("deadline", deadline), ("ready_timeout", ready_timeout)):
            require_type(name, value, *NUMBER)
        for name, value in (("max_connections", max_connections), ("memo_bytes", memo_bytes)):
            require_type(name, value, int)
        for name, text in (
            ("url", url),
            ("namespace", namespace),
            ("password_file", password_file),
            ("replica_url", replica_url),
        ):
            require_type(name, text, str, optional=True)
        require_type("stale_if_error", stale_if_error, *NUMBER, optional=True)
        _refuse_replicas(replica_url)
        namespace = find_namespace(namespace)
        endpoint = Endpoint.find(url, namespace=namespace, password_file=password_file)
        where = f"namespace {namespace!r} at {endpoint.shown}"
        source = Source(Keys(namespace), where, ParsedJobCache(memo_bytes))
        size = pool_size(endpoint, max_connections)
        deadline = check_deadline(deadline)
        most_age = check_stale_if_error(stale_if_error)
        self._source = source
        self._ready_timeout = ready_timeout
        self._deadline = deadline
        self._last = LastAnswer()
        connected = self._connected

        def connect() -> C:  # without self: a client that nobody refers to is gone at once
            executor = Executor(
                source,
                deadline=deadline,
                breaker=Breaker(opens=breaker),
                last_good=None if most_age is None else StaleIfError(most_age),
                on_exchange=on_exchange,
            )
            return connected(endpoint, size, executor)

        self._here = PerProcess(connect, connected.abandon)

    @property
    def last_freshness(self) -> Freshness | None:
        """How fresh the answer was that this thread or task got last; taken in the same step as the answer."""
        return self._last.freshness


def _refuse_replicas(replica_url: str | None) -> None:
    setting = "replica_url"
    if replica_url is None:
        replica_url, setting = os.environ.get(REPLICA_URL_VARIABLE), REPLICA_URL_VARIABLE
    if replica_url:
        raise ConfigError(
            f"{setting} is set, but jobcache reads from the primary only: remove the setting"
        )
