"""``AsyncJobCache``: the async shell around the queries. Same names as ``JobCache``, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

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
from jobcache.queries import changes, freshness, job, listing, running, totals, writes
from jobcache.queries.answer import Answer, Reader
from jobcache.queries.query import Query
from jobcache.transport.aiopool import AsyncPool
from jobcache.transport.attempt import FAILURES
from jobcache.transport.connect import make_async_pool
from jobcache.transport.execute import Exchange, Execution, Executor, LastAnswer, Observer, Sleep
from jobcache.transport.process import PerProcess
from jobcache.transport.setup import Setup

T = TypeVar("T")


class AsyncJobCache:
    """``JobCache`` for asyncio; see there for what each call means and raises.

    Connections belong to the event loop that made them: each loop that uses the cache gets a pool of its own.
    """

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
        setup = Setup(
            url,
            namespace=namespace,
            deadline=deadline,
            ready_timeout=ready_timeout,
            max_connections=max_connections,
            memo_bytes=memo_bytes,
            password_file=password_file,
            breaker=breaker,
            stale_if_error=stale_if_error,
            on_exchange=on_exchange,
            replica_url=replica_url,
        )
        self._source = setup.source
        self._ready_timeout = setup.ready_timeout
        self._deadline = setup.deadline
        self._last = LastAnswer()
        self._here = PerProcess(
            lambda: _Here(
                partial(make_async_pool, setup.endpoint, size=setup.size), setup.make_executor()
            ),
            _Here.abandon,
        )

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
        project: str | None = None,
        group: str | None = None,
        status: JobStatus | str | None = None,
        limit: int | None = 100,
    ) -> list[JobMetadata]:
        """See ``JobCache.list_all_jobs``."""
        return await self._read(listing.list_all_jobs, project, group, status, limit)

    async def page(
        self,
        project: str | None = None,
        group: str | None = None,
        status: JobStatus | str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> JobPage:
        """See ``JobCache.page``."""
        return await self._read(listing.page, project, group, status, limit, cursor)

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

    # Freshness

    async def freshness(self) -> Freshness:
        """See ``JobCache.freshness``."""
        return await self._answer(freshness.freshness(self._source))

    @property
    def last_freshness(self) -> Freshness | None:
        """See ``JobCache.last_freshness``."""
        return self._last.freshness

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
        return await perform(pool, here.executor.read(query, args, self._last, pool.drop))

    async def _write(self, query: Query[Answer[T]]) -> T:
        here = self._here.get()
        pool = here.pool()
        return await perform(pool, here.executor.write(query, self._last, pool.drop))

    async def _answer(self, query: Query[T]) -> T:
        here = self._here.get()
        pool = here.pool()
        return await perform(pool, here.executor.run(query, pool.drop))


async def perform(pool: AsyncPool, execution: Execution[T]) -> T:
    """Do what an execution asks for, until it returns."""
    try:
        step = next(execution)
        while True:
            try:
                reply = await _do(pool, step)
            except FAILURES as error:
                step = execution.throw(error)
            else:
                step = execution.send(reply)
    except StopIteration as stop:
        answer: T = stop.value
        return answer
    finally:
        execution.close()  # at once, also when this call is cancelled


async def _do(pool: AsyncPool, step: Exchange | Sleep) -> Any:
    if isinstance(step, Sleep):
        return await asyncio.sleep(step.seconds)
    return await pool.exchange(step.command, step.ends, step.begin)


class _Here:
    """What one process has of a cache's connections, a pool for each event loop, and knows of its server."""

    def __init__(self, make_pool: Callable[[], AsyncPool], executor: Executor) -> None:
        self.executor = executor
        self._make_pool = make_pool
        self._pools: dict[asyncio.AbstractEventLoop, AsyncPool] = {}

    def pool(self) -> AsyncPool:
        """The pool of the loop that runs in this thread."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            self._sweep()
            pool = self._pools[loop] = self._make_pool()
        return pool

    async def close(self) -> None:
        """Close the running loop's connections, and those of loops that are closed."""
        self._sweep()
        if pool := self._pools.get(asyncio.get_running_loop()):
            await pool.close()

    def abandon(self) -> None:
        """Let go of the parent's connections, in a child."""
        for pool in self._pools.values():
            pool.abandon(shared=True)

    def _sweep(self) -> None:
        for loop in [*self._pools]:
            if loop.is_closed() and (pool := self._pools.pop(loop, None)):
                pool.abandon(shared=False)
