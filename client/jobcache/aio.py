"""``AsyncJobCache``: the async shell around the queries. Same names as ``JobCache``, awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakKeyDictionary

from redis.asyncio import Redis

from jobcache import changefeed, queries, totals, writes
from jobcache.connect import connect_async
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


class AsyncJobCache:
    """``JobCache`` for asyncio; see there for what each call means and raises.

    Connections belong to the event loop that made them: each loop that uses the cache gets a pool of its own.
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
        self._endpoint = Endpoint.find(url, namespace=namespace, password_file=password_file)
        self._source = Source(
            Keys(namespace), f"namespace {namespace!r} at {self._endpoint.shown}", Memo(memo_bytes)
        )
        self._deadline = deadline
        self._ready_timeout = ready_timeout
        self._max_connections = max_connections
        self._traits = ServerTraits()
        self._last: ContextVar[Header | None] = ContextVar("last_freshness", default=None)
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Redis] = WeakKeyDictionary()

    # Lifecycle

    async def start(self) -> None:
        """Wait until a refresher has completed a scan, at most ``ready_timeout`` seconds."""
        await self._answer(queries.wait_until_ready(self._source, self._ready_timeout))

    async def stop(self) -> None:
        """Close this event loop's connections. A later call opens new ones."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()
            await client.connection_pool.disconnect()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    # Queries

    async def list_all_jobs(
        self,
        project: str | None = None,
        group: str | None = None,
        status: JobStatus | str | None = None,
        limit: int | None = 100,
    ) -> list[JobMetadata]:
        """See ``JobCache.list_all_jobs``."""
        return await self._value(queries.list_all_jobs(self._source, project, group, status, limit))

    async def page(
        self,
        project: str | None = None,
        group: str | None = None,
        status: JobStatus | str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> JobPage:
        """See ``JobCache.page``."""
        return await self._value(queries.page(self._source, project, group, status, limit, cursor))

    async def get_job(self, project: str, group: str, name: str, run_id: str) -> JobMetadata | None:
        """See ``JobCache.get_job``."""
        return await self._value(queries.get_job(self._source, project, group, name, run_id))

    async def get_job_runs(self, project: str, group: str, name: str) -> list[JobMetadata]:
        """See ``JobCache.get_job_runs``."""
        return await self._value(queries.get_job_runs(self._source, project, group, name))

    async def list_projects(self) -> list[ProjectSummary]:
        """See ``JobCache.list_projects``."""
        return await self._value(totals.list_projects(self._source))

    async def get_running_jobs(self) -> list[JobMetadata]:
        """See ``JobCache.get_running_jobs``."""
        return await self._value(queries.get_running_jobs(self._source))

    async def get_recent_jobs(self, hours: float = 24, limit: int | None = 50) -> list[JobMetadata]:
        """See ``JobCache.get_recent_jobs``."""
        return await self._value(queries.get_recent_jobs(self._source, hours, limit))

    async def get_dashboard_stats(self) -> DashboardStats:
        """See ``JobCache.get_dashboard_stats``."""
        return await self._value(totals.get_dashboard_stats(self._source))

    async def counts(self) -> JobCounts:
        """See ``JobCache.counts``."""
        return await self._value(totals.counts(self._source))

    # Freshness

    async def freshness(self) -> Freshness:
        """See ``JobCache.freshness``."""
        return await self._answer(queries.freshness(self._source))

    @property
    def last_freshness(self) -> Freshness | None:
        """See ``JobCache.last_freshness``."""
        last = self._last.get()
        return None if last is None else last.freshness

    async def meta(self) -> dict[str, str]:
        """See ``JobCache.meta``."""
        return await self._answer(queries.meta(self._source))

    async def changes(
        self, since: str | None = None, *, wait: float | None = None
    ) -> AsyncIterator[Change]:
        """See ``JobCache.changes``."""
        feed = changefeed.Feed(self._source, since, wait)
        while True:
            batch = await self._answer(feed.next_batch())
            if batch is None:
                return
            for change in batch:
                yield change

    # Writes

    async def delete_job(self, project: str, group: str, name: str, run_id: str) -> bool:
        """See ``JobCache.delete_job``."""
        return await self._value(writes.delete_job(self._source, project, group, name, run_id))

    async def invalidate(self, project: str, group: str, name: str, run_id: str) -> None:
        """See ``JobCache.invalidate``."""
        await self._answer(writes.invalidate(self._source, project, group, name, run_id))

    async def refresh(self, *, wait: bool = False, timeout: float = 60.0) -> Freshness:
        """See ``JobCache.refresh``."""
        return await self._answer(writes.refresh(self._source, wait, timeout))

    # I/O

    async def _value(self, plan: Plan[Answer[T]]) -> T:
        answer = await self._answer(plan)
        self._last.set(answer.header)
        return answer.value

    async def _answer(self, plan: Plan[T]) -> T:
        talk = converse(plan, self._traits)
        began = time.monotonic()
        try:
            step = next(talk)
            while True:
                try:
                    reply = await self._perform(step, began)
                except FAILURES as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(reply)
        except StopIteration as stop:
            answer: T = stop.value
            return answer
        except FAILURES as error:
            raise unavailable(self._source.where, error) from error

    async def _perform(self, step: Ask | Pause, began: float) -> Any:
        match step:
            case Ask(args):
                async with asyncio.timeout(self._deadline):
                    return await self._client().execute_command(*args)
            case Pause(seconds):
                await asyncio.sleep(seconds)
                return time.monotonic() - began

    def _client(self) -> Redis:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = connect_async(
                self._endpoint, deadline=self._deadline, max_connections=self._max_connections
            )
        return client
