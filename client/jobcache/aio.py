"""``AsyncJobCache``: the async shell around the queries. Same names as ``JobCache``, awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from jobcache.connection.aiopool import AsyncPool
from jobcache.connection.attempt import FAILURES, Attempt
from jobcache.connection.breaker import Breaker
from jobcache.connection.budget import check_deadline
from jobcache.connection.connect import make_async_pool, pool_size
from jobcache.connection.dialogue import ServerTraits, Talk, converse, unavailable
from jobcache.connection.endpoint import Endpoint
from jobcache.connection.process import PerProcess
from jobcache.connection.replicas import LONGEST_PAUSE, Replicas, converse_with_all
from jobcache.errors import JobCacheError
from jobcache.keys import Keys, find_namespace
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
from jobcache.plans import changefeed, queries, totals, writes
from jobcache.plans.lastgood import LastGood, check_stale_if_error, make_last_good
from jobcache.plans.memo import Memo
from jobcache.plans.plan import Ask, AskAll, AtReplica, Pause, Plan
from jobcache.plans.source import Answer, Query, Source
from jobcache.plans.stamp import Stamp

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
        replica_url: str | None = None,
    ) -> None:
        namespace = find_namespace(namespace)
        endpoint = Endpoint.find(url, namespace=namespace, password_file=password_file)
        replica_endpoint = Endpoint.find_replicas(
            replica_url, url, namespace=namespace, password_file=password_file
        )
        self._source = Source(
            Keys(namespace), f"namespace {namespace!r} at {endpoint.shown}", Memo(memo_bytes)
        )
        self._deadline = check_deadline(deadline)
        self._ready_timeout = ready_timeout
        self._traits = ServerTraits()
        self._has_replicas = replica_endpoint is not None
        self._last: ContextVar[Stamp | None] = ContextVar("last_freshness", default=None)
        size = pool_size(endpoint, max_connections)
        replica_size = pool_size(replica_endpoint or endpoint, max_connections)
        most_age = check_stale_if_error(stale_if_error)
        self._here = PerProcess(
            lambda: _Here(
                _Server(partial(make_async_pool, endpoint, size=size), Breaker(opens=breaker)),
                None
                if replica_endpoint is None
                else _Server(
                    partial(make_async_pool, replica_endpoint, size=replica_size),
                    Breaker(longest_pause=LONGEST_PAUSE),
                ),
                make_last_good(most_age),
            ),
            _Here.abandon,
        )

    # Lifecycle

    async def start(self) -> None:
        """Wait until a refresher has completed a scan, at most ``ready_timeout`` seconds."""
        await self._answer(queries.wait_until_ready(self._source, self._ready_timeout))

    async def stop(self) -> None:
        """Close this event loop's connections. A later call opens new ones."""
        await self._here.get().close(asyncio.get_running_loop())

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
        return await self._read(queries.list_all_jobs, project, group, status, limit)

    async def page(
        self,
        project: str | None = None,
        group: str | None = None,
        status: JobStatus | str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> JobPage:
        """See ``JobCache.page``."""
        return await self._read(queries.page, project, group, status, limit, cursor)

    async def get_job(self, project: str, group: str, name: str, run_id: str) -> JobMetadata | None:
        """See ``JobCache.get_job``."""
        return await self._read(queries.get_job, project, group, name, run_id)

    async def get_job_runs(self, project: str, group: str, name: str) -> list[JobMetadata]:
        """See ``JobCache.get_job_runs``."""
        return await self._read(queries.get_job_runs, project, group, name)

    async def list_projects(self) -> list[ProjectSummary]:
        """See ``JobCache.list_projects``."""
        return await self._read(totals.list_projects)

    async def get_running_jobs(self) -> list[JobMetadata]:
        """See ``JobCache.get_running_jobs``."""
        return await self._read(queries.get_running_jobs)

    async def get_recent_jobs(self, hours: float = 24, limit: int | None = 50) -> list[JobMetadata]:
        """See ``JobCache.get_recent_jobs``."""
        return await self._read(queries.get_recent_jobs, hours, limit)

    async def get_dashboard_stats(self) -> DashboardStats:
        """See ``JobCache.get_dashboard_stats``."""
        return await self._read(totals.get_dashboard_stats)

    async def counts(self) -> JobCounts:
        """See ``JobCache.counts``."""
        return await self._read(totals.counts)

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
        return await self._write(writes.delete_job(self._source, project, group, name, run_id))

    async def invalidate(self, project: str, group: str, name: str, run_id: str) -> None:
        """See ``JobCache.invalidate``."""
        await self._answer(writes.invalidate(self._source, project, group, name, run_id))

    async def refresh(self, *, wait: bool = False, timeout: float = 60.0) -> Freshness:
        """See ``JobCache.refresh``."""
        return await self._answer(writes.refresh(self._source, wait, timeout))

    # I/O

    async def _read(self, query: Query[T], *args: Any) -> T:
        last_good = self._here.get().last_good
        asked = time.monotonic()
        try:
            answer = await self._answer(query(self._source, *args), reads=True)
        except JobCacheError as error:
            if last_good is None:
                raise
            answer = last_good.stand_in((query, args), error)
        else:
            if last_good is not None:
                last_good.keep((query, args), answer, asked)
        self._last.set(answer.header)
        return answer.value

    async def _write(self, plan: Plan[Answer[T]]) -> T:
        answer = await self._answer(plan)
        if last_good := self._here.get().last_good:
            last_good.forget()
        self._last.set(answer.header)
        return answer.value

    async def _answer(self, plan: Plan[T], *, reads: bool = False) -> T:
        talk: Talk[T] = (
            converse_with_all(plan, self._traits, self._here.get().replicas, reads=reads)
            if self._has_replicas
            else converse(plan, self._traits)
        )
        began = time.monotonic()
        ends = began + self._deadline
        try:
            step = next(talk)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    now = time.monotonic()
                    ends = now + self._deadline
                    step = talk.send(now - began)
                    continue
                if step.renews:
                    ends = time.monotonic() + self._deadline
                try:
                    reply = await self._exchange(step, ends)
                except FAILURES as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(reply)
        except StopIteration as stop:
            answer: T = stop.value
            return answer
        except FAILURES as error:
            raise unavailable(self._source.where, error) from error

    async def _exchange(self, step: Ask | AskAll | AtReplica, ends: float) -> Any:
        here = self._here.get()
        loop = asyncio.get_running_loop()
        server = here.primary
        patience = self._deadline / 2
        if isinstance(step, AtReplica):
            server = here.replica
            if step.anew:
                server.pool(loop).drop()
            step, ends, patience = step.step, ends - patience, patience / 2
        pool = server.pool(loop)
        with Attempt(server.breaker, patience, pool.drop) as attempt:
            await pool.acquire(ends - time.monotonic())
            try:
                attempt.begin()
                return await pool.exchange(step, ends)
            finally:
                pool.release()


class _Here:
    """What one process has of a cache's connections, and knows of its servers."""

    def __init__(
        self, primary: _Server, replica: _Server | None, last_good: LastGood | None
    ) -> None:
        self.primary = primary
        self.replica = replica or primary
        self.replicas = Replicas()
        self.last_good = last_good

    async def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close a loop's connections, and those of loops that are closed."""
        try:
            await self.primary.close(loop)
        finally:
            await self.replica.close(loop)

    def abandon(self) -> None:
        """Let go of the parent's connections, in a child."""
        self.primary.abandon()
        self.replica.abandon()


class _Server:
    """Connections to a server, a pool for each event loop, and what is known of it."""

    def __init__(self, make: Callable[[], AsyncPool], breaker: Breaker) -> None:
        self.breaker = breaker
        self._make = make
        self._pools: dict[asyncio.AbstractEventLoop, AsyncPool] = {}

    def pool(self, loop: asyncio.AbstractEventLoop) -> AsyncPool:
        """The pool of a loop that runs in this thread."""
        pool = self._pools.get(loop)
        if pool is None:
            self._sweep()
            pool = self._pools[loop] = self._make()
        return pool

    async def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close a loop's connections, and those of loops that are closed."""
        self._sweep()
        if pool := self._pools.pop(loop, None):
            await pool.close()

    def abandon(self) -> None:
        """Let go of the parent's connections, in a child."""
        for pool in self._pools.values():
            pool.abandon(shared=True)

    def _sweep(self) -> None:
        for loop in [*self._pools]:
            if loop.is_closed() and (pool := self._pools.pop(loop, None)):
                pool.abandon(shared=False)
