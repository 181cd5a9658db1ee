"""What the arguments of a client come to: the same for both clients."""

from __future__ import annotations

import os

from jobcache.errors import ConfigError
from jobcache.queries.parsed_jobs import ParsedJobCache
from jobcache.queries.source import Source
from jobcache.queries.stale_if_error import StaleIfError, check_stale_if_error
from jobcache.schema.keys import Keys, find_namespace
from jobcache.transport.breaker import Breaker
from jobcache.transport.budget import check_deadline
from jobcache.transport.connect import pool_size
from jobcache.transport.endpoint import Endpoint
from jobcache.transport.execute import Executor, Observer

REPLICA_URL_VARIABLE = "JOBCACHE_REDIS_REPLICA_URL"
"""What named replicas to read from before that was removed."""


class Setup:
    """The checked arguments of a client; ``JobCache`` says what each means.

    Raises:
        ConfigError: one of them cannot be used.
    """

    def __init__(
        self,
        url: str | None,
        *,
        namespace: str | None,
        deadline: float,
        ready_timeout: float,
        max_connections: int,
        memo_bytes: int,
        password_file: str | None,
        breaker: bool,
        stale_if_error: float | None,
        on_exchange: Observer | None,
        replica_url: str | None,
    ) -> None:
        _refuse_replicas(replica_url)
        namespace = find_namespace(namespace)
        self.endpoint = Endpoint.find(url, namespace=namespace, password_file=password_file)
        where = f"namespace {namespace!r} at {self.endpoint.shown}"
        self.source = Source(Keys(namespace), where, ParsedJobCache(memo_bytes))
        self.ready_timeout = ready_timeout
        self.size = pool_size(self.endpoint, max_connections)
        """Most connections of a pool."""
        self.deadline = check_deadline(deadline)
        self._breaker = breaker
        self._on_exchange = on_exchange
        self._most_age = check_stale_if_error(stale_if_error)

    def make_executor(self) -> Executor:
        """One for this process."""
        return Executor(
            self.source,
            deadline=self.deadline,
            breaker=Breaker(opens=self._breaker),
            last_good=None if self._most_age is None else StaleIfError(self._most_age),
            on_exchange=self._on_exchange,
        )


def _refuse_replicas(replica_url: str | None) -> None:
    setting = "replica_url"
    if replica_url is None:
        replica_url, setting = os.environ.get(REPLICA_URL_VARIABLE), REPLICA_URL_VARIABLE
    if replica_url:
        raise ConfigError(
            f"{setting} is set, but jobcache reads from the primary only: remove the setting"
        )
