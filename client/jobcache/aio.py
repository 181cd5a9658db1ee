"""``AsyncJobCache``: the async shell around the queries. Same names as ``JobCache``, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeVar

from jobcache.models import (
    Change,
    DashboardStats,
    Freshness,
    JobCounts,
    JobMetadata,
    JobPage,
    Problem,
    ProjectSummary,
)
from jobcache.queries import changes, freshness, job, listing, problems, running, totals, writes
from jobcache.queries.answer import Answer, Reader
from jobcache.queries.filters import Filters, Texts, Time
from jobcache.queries.query import Query
from jobcache.transport.aiopool import AsyncPool
from jobcache.transport.attempt import FAILURES
from jobcache.transport.client import Client, Connected
from jobcache.transport.connect import make_async_pool
from jobcache.transport.drive import drive_async
from jobcache.transport.endpoint import Endpoint
from jobcache.transport.execute import Exchange, Execution, Executor, Sleep

T = TypeVar("T")


class _Connected(Connected):
    """A pool for each event loop."""

    def __init__(self, endpoint: Endpoint, size: int, executor: Executor) -> None:
        super().__init__(endpoint, size, executor)
        self._endpoint = endpoint
        self._size = size
        self._pools: dict[asyncio.AbstractEventLoop, AsyncPool] = {}

    def pool(self) -> AsyncPool:
        """The pool of the loop that runs in this thread."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            self._sweep()
            pool = self._pools[loop] = make_async_pool(self._endpoint, size=self._size)
        return pool

    async def close(self) -> None:
        """Close the running loop's connections, and those of loops that are closed."""
        self._sweep()
        if pool := self._pools.get(asyncio.get_running_loop()):
            await pool.close()

    def abandon(self) -> None:
        for pool in self._pools.values():
            pool.abandon(shared=True)

    def _sweep(self) -> None:
        for loop in [*self._pools]:
            if loop.is_closed() and (pool := self._pools.pop(loop, None)):
                pool.abandon(shared=False)


class AsyncJobCache(Client[_Connected]):
    """``JobCache`` for asyncio; see there for what each call means and raises.

    Connections belong to the event loop that made them: each loop that uses the cache gets a pool of its own.
    """

    _connected = _Connected

    # Lifecycle

    async def start(self) -> None:
        """Wait until a refresher has completed a scan, at most ``ready_timeout`` seconds."""
        await self._answer(freshness.wait_until_ready(self._source, self._ready_timeout))

    async def stop(self) -> None:
        """Close this event loop's connections. A later call opens new ones."""
        await self._here.get().close()

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
        project: Texts = None,
        group: Texts = None,
        status: Texts = None,
        limit: int | None = 100,
        *,
        text: str | None = None,
        started_after: Time = None,
        started_before: Time = None,
        active_after: Time = None,
        active_before: Time = None,
        order: str = "started",
    ) -> list[JobMetadata]:
        """See ``JobCache.list_all_jobs``."""
        filters = Filters.of(
            project,
            group,
            status,
            text=text,
            started_after=started_after,
            started_before=started_before,
            active_after=active_after,
            active_before=active_before,
            order=order,
        )
        return await self._read(listing.list_all_jobs, filters, limit)

    async def page(
        self,
        project: Texts = None,
        group: Texts = None,
        status: Texts = None,
        limit: int = 100,
        cursor: str | None = None,
        *,
        text: str | None = None,
        started_after: Time = None,
        started_before: Time = None,
        active_after: Time = None,
        active_before: Time = None,
        order: str = "started",
    ) -> JobPage:
        """See ``JobCache.page``."""
        filters = Filters.of(
            project,
            group,
            status,
            text=text,
            started_after=started_after,
            started_before=started_before,
            active_after=active_after,
            active_before=active_before,
            order=order,
        )
        return await self._read(listing.page, filters, limit, cursor)

    async def get_job(self, project: str, group: str, name: str, run_id: str) -> JobMetadata | None:
        """See ``JobCache.get_job``."""
        return await self._read(job.get_job, project, group, name, run_id)

    async def get_job_runs(self, project: str, group: str, name: str) -> list[JobMetadata]:
        """See ``JobCache.get_job_runs``."""
        return await self._read(listing.get_job_runs, project, group, name)

    async def list_projects(self) -> list[ProjectSummary]:
        """See ``JobCache.list_projects``."""
        return await self._read(totals.list_projects)

    async def get_running_jobs(self) -> list[JobMetadata]:
        """See ``JobCache.get_running_jobs``."""
        return await self._read(running.get_running_jobs)

    async def get_recent_jobs(self, hours: float = 24, limit: int | None = 50) -> list[JobMetadata]:
        """See ``JobCache.get_recent_jobs``."""
        return await self._read(listing.get_recent_jobs, hours, limit)

    async def get_dashboard_stats(self) -> DashboardStats:
        """See ``JobCache.get_dashboard_stats``."""
        return await self._read(totals.get_dashboard_stats)

    async def counts(self) -> JobCounts:
        """See ``JobCache.counts``."""
        return await self._read(totals.counts)

    async def problems(self, prefix: str | None = None, limit: int | None = 100) -> list[Problem]:
        """See ``JobCache.problems``."""
        return await self._read(problems.problems, prefix, limit)

    # Freshness

    async def freshness(self) -> Freshness:
        """See ``JobCache.freshness``."""
        return await self._answer(freshness.freshness(self._source))

    async def meta(self) -> dict[str, str]:
        """See ``JobCache.meta``."""
        return await self._answer(freshness.meta(self._source))

    async def changes(
        self, since: str | None = None, *, wait: float | None = None
    ) -> AsyncIterator[Change]:
        """See ``JobCache.changes``."""
        feed = changes.Feed(self._source, since, wait)
        while True:
            batch = await self._answer(feed.next_batch())
            if batch is None:
                return
            for change in batch:
                yield change

    # Writes

    async def delete_job(self, project: str, group: str, name: str, run_id: str) -> bool:
        """See ``JobCache.delete_job``."""
        return await self._write(
            writes.delete_job(self._source, project, group, name, run_id, self._deadline)
        )

    async def invalidate(self, project: str, group: str, name: str, run_id: str) -> None:
        """See ``JobCache.invalidate``."""
        await self._answer(writes.invalidate(self._source, project, group, name, run_id))

    async def refresh(self, *, wait: bool = False, timeout: float = 60.0) -> Freshness:
        """See ``JobCache.refresh``."""
        return await self._answer(writes.refresh(self._source, wait, timeout))

    # I/O

    async def _read(self, query: Reader[T], *args: Any) -> T:
        here = self._here.get()
        pool = here.pool()
        return await _perform(pool, here.executor.read(query, args, self._last, pool.drop))

    async def _write(self, query: Query[Answer[T]]) -> T:
        here = self._here.get()
        pool = here.pool()
        return await _perform(pool, here.executor.write(query, self._last, pool.drop))

    async def _answer(self, query: Query[T]) -> T:
        here = self._here.get()
        pool = here.pool()
        return await _perform(pool, here.executor.run(query, pool.drop))


async def _perform(pool: AsyncPool, execution: Execution[T]) -> T:
    async def do(step: Exchange | Sleep) -> Any:
        if isinstance(step, Sleep):
            return await asyncio.sleep(step.seconds)
        return await pool.exchange(step.command, step.ends, step.begin)

    return await drive_async(execution, do, FAILURES)
