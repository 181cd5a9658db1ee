"""``JobCache``: the sync shell around the queries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, TypeVar

from jobcache import changefeed, queries, totals, writes
from jobcache.connect import connect
from jobcache.dialogue import FAILURES, ServerTraits, converse, unavailable
from jobcache.endpoint import Endpoint
from jobcache.header import Header
from jobcache.keys import Keys
from jobcache.memo import Memo
from jobcache.models import (
    Change,
    DashboardStats,
    Freshness,
    JobCounts,
    JobMetadata,
    JobPage,
    JobStatus,
    ProjectSummary,
)
from jobcache.plan import Ask, Pause, Plan
from jobcache.source import Answer, Source

T = TypeVar("T")


class JobCache:
    """Jobs out of Redis, with the calls of the in-process cache.

    Use it as ``with JobCache() as cache``, as ``await cache.start()`` and ``await cache.stop()`` around an
    application's life, or with no lifecycle call at all: it connects on first use. Queries return at once and may be
    called from any thread.

    Args:
        url: ``redis://``, ``rediss://``, ``valkey://`` or ``unix://``, or of a ``redis+sentinel://`` or
            ``redis+cluster://``; by default ``JOBCACHE_REDIS_URL``, then ``REDIS_URL``.
        namespace: which of the caches in one Redis.
        deadline: most seconds that one exchange with the server may take. Listings of more than 200 jobs
            take several exchanges.
        ready_timeout: most seconds that ``start()`` waits for a first completed scan.
        max_connections: size of the pool; callers beyond it wait their turn within the deadline.
        memo_bytes: most memory for jobs that this process has parsed, so that only what changed travels again; 0
            for none.
        password_file: file with the password, for a URL without one; read for each connection. By default
            ``JOBCACHE_REDIS_PASSWORD_FILE``.

    Raises:
        ConfigError: the URL or the namespace cannot be used. Nothing is connected yet.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str = "default",
        deadline: float = 1.0,
        ready_timeout: float = 10.0,
        max_connections: int = 8,
        memo_bytes: int = 8 << 20,
        password_file: str | None = None,
    ) -> None:
        endpoint = Endpoint.find(url, namespace=namespace, password_file=password_file)
        self._source = Source(
            Keys(namespace), f"namespace {namespace!r} at {endpoint.shown}", Memo(memo_bytes)
        )
        self._ready_timeout = ready_timeout
        self._traits = ServerTraits()
        self._last: ContextVar[Header | None] = ContextVar("last_freshness", default=None)
        self._redis = connect(endpoint, deadline=deadline, max_connections=max_connections)

    # Lifecycle

    def open(self) -> Self:
        """Wait until a refresher has completed a scan.

        Raises:
            CacheNotReady: none has within ``ready_timeout``; the message names URL and namespace.
            CacheUnavailable: Redis cannot be reached.
        """
        self._answer(queries.wait_until_ready(self._source, self._ready_timeout))
        return self

    def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        self._redis.connection_pool.disconnect()

    async def start(self) -> None:
        """``open()`` for async applications; the event loop goes on meanwhile."""
        await asyncio.to_thread(self.open)

    async def stop(self) -> None:
        """``close()`` for async applications."""
        self.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Queries

    def list_all_jobs(
        self,
        project: str | None = None,
        group: str | None = None,
        status: JobStatus | str | None = None,
        limit: int | None = 100,
    ) -> list[JobMetadata]:
        """Jobs that match every filter given, newest start first; equal starts by id, backwards.

        Raises:
            ValueError: a negative limit, or a status that does not exist.
        """
        return self._value(queries.list_all_jobs(self._source, project, group, status, limit))

    def page(
        self,
        project: str | None = None,
        group: str | None = None,
        status: JobStatus | str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> JobPage:
        """One page of ``list_all_jobs`` with the total and a cursor to the next one.

        Jobs that come or go between two pages neither repeat nor hide the others.

        Raises:
            ValueError: a limit outside 1 to 200, a status that does not exist, or a cursor that no page gave.
        """
        return self._value(queries.page(self._source, project, group, status, limit, cursor))

    def get_job(self, project: str, group: str, name: str, run_id: str) -> JobMetadata | None:
        """One run, by the names of its directory."""
        return self._value(queries.get_job(self._source, project, group, name, run_id))

    def get_job_runs(self, project: str, group: str, name: str) -> list[JobMetadata]:
        """Every run of one job name, newest start first."""
        return self._value(queries.get_job_runs(self._source, project, group, name))

    def list_projects(self) -> list[ProjectSummary]:
        """Every project with its totals, by name."""
        return self._value(totals.list_projects(self._source))

    def get_running_jobs(self) -> list[JobMetadata]:
        """Jobs that say ``running`` and whose heartbeat is fresh, newest start first."""
        return self._value(queries.get_running_jobs(self._source))

    def get_recent_jobs(self, hours: float = 24, limit: int | None = 50) -> list[JobMetadata]:
        """Jobs that started within some hours before the last completed scan, newest first.

        Raises:
            ValueError: negative hours or a negative limit.
        """
        return self._value(queries.get_recent_jobs(self._source, hours, limit))

    def get_dashboard_stats(self) -> DashboardStats:
        """Totals of everything and of each project."""
        return self._value(totals.get_dashboard_stats(self._source))

    def counts(self) -> JobCounts:
        """Totals by status."""
        return self._value(totals.counts(self._source))

    # Freshness

    def freshness(self) -> Freshness:
        """How fresh the cache is now. Answers also when there is no cache yet."""
        return self._answer(queries.freshness(self._source))

    @property
    def last_freshness(self) -> Freshness | None:
        """How fresh the answer was that this thread or task got last; taken in the same step as the answer."""
        last = self._last.get()
        return None if last is None else last.freshness

    def meta(self) -> dict[str, str]:
        """What the refresher says of itself: the fields of ``meta``."""
        return self._answer(queries.meta(self._source))

    def changes(self, since: str | None = None, *, wait: float | None = None) -> Iterator[Change]:
        """Jobs added, modified and deleted after a position, as they happen.

        Args:
            since: the ``position`` of the last change seen; None for what happens from now on.
            wait: seconds without a change after which the iterator ends; None for never.

        A ``resync`` says that changes were missed: list again, then go on.
        """
        feed = changefeed.Feed(self._source, since, wait)
        while True:
            batch = self._answer(feed.next_batch())
            if batch is None:
                return
            yield from batch

    # Writes

    def delete_job(self, project: str, group: str, name: str, run_id: str) -> bool:
        """Drop a run whose files were removed; gone for every worker when this returns.

        Returns whether it was there. A run whose files still exist comes back with the next scan: files are the truth.

        Raises:
            ValueError: no directory can bear these names.
        """
        return self._value(writes.delete_job(self._source, project, group, name, run_id))

    def invalidate(self, project: str, group: str, name: str, run_id: str) -> None:
        """Have the refresher read a run again at once, also if its file looks unchanged, or discover it.

        Raises:
            ValueError: no directory can bear these names.
        """
        self._answer(writes.invalidate(self._source, project, group, name, run_id))

    def refresh(self, *, wait: bool = False, timeout: float = 60.0) -> Freshness:
        """Ask for a scan of the whole tree; with ``wait``, return once one that began after the call has completed.

        Raises:
            CacheUnavailable: none completed within ``timeout`` seconds.
        """
        return self._answer(writes.refresh(self._source, wait, timeout))

    # I/O

    def _value(self, plan: Plan[Answer[T]]) -> T:
        answer = self._answer(plan)
        self._last.set(answer.header)
        return answer.value

    def _answer(self, plan: Plan[T]) -> T:
        talk = converse(plan, self._traits)
        began = time.monotonic()
        try:
            step = next(talk)
            while True:
                try:
                    reply = self._perform(step, began)
                except FAILURES as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(reply)
        except StopIteration as stop:
            answer: T = stop.value
            return answer
        except FAILURES as error:
            raise unavailable(self._source.where, error) from error

    def _perform(self, step: Ask | Pause, began: float) -> Any:
        match step:
            case Ask(args):
                return self._redis.execute_command(*args)
            case Pause(seconds):
                time.sleep(seconds)
                return time.monotonic() - began
