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
    """Jobs out of Redis for asyncio: the calls of ``JobCache``, awaited.

    Use it as ``async with AsyncJobCache() as cache``, as ``await cache.start()`` and ``await cache.stop()`` around an
    application's life, or with no lifecycle call at all: it connects on first use. Connections belong to the event loop
    that made them: each loop that uses the cache gets a pool of its own. Tasks may share it.

    Args:
        url: ``redis://``, ``rediss://``, ``valkey://`` or ``unix://``, or of a ``redis+sentinel://`` or
            ``redis+cluster://``; by default ``JOBCACHE_REDIS_URL``, then ``REDIS_URL``.
        namespace: which of the caches in one Redis; by default ``JOBCACHE_NAMESPACE``, then ``default``.
        deadline: most seconds until a call returns or raises ``CacheUnavailable``, whatever the server does. A
            listing of more than 200 jobs is fetched in parts, and has as long for each of them.
        ready_timeout: most seconds that ``start()`` waits for a first completed scan.
        max_connections: size of the pool; callers beyond it wait their turn within the deadline.
        memo_bytes: most memory for jobs that this process has parsed, so that only what changed travels again; 0
            for none.
        password_file: file with the password, for a URL without one; read for each connection. By default
            ``JOBCACHE_REDIS_PASSWORD_FILE``.
        breaker: whether calls fail at once while the server is known to be away, but for one at a time that tries.
        stale_if_error: seconds for which the last good answer of a query may stand in when Redis does not give one;
            ``last_freshness`` says so. None for never. Each process knows its own answers only.
        on_exchange: called after each exchange with Redis, with the command (a tuple) and the reply as Redis gave
            it; to count or to trace. What it raises, the call raises.
        replica_url: refused; jobcache reads from the primary only.

    Raises:
        ConfigError: the URL, the namespace or a number cannot be used. Nothing is connected yet.
    """

    _connected = _Connected

    # Lifecycle

    async def start(self) -> None:
        """Wait until a refresher has completed a scan.

        Raises:
            CacheNotReady: none has within ``ready_timeout``; the message names URL and namespace.
            CacheUnavailable: Redis cannot be reached.
        """
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
        """Jobs that match every filter given, newest first; equal times by id, backwards.

        Args:
            project: a name or several. Empty text is no filter; an empty sequence matches nothing.
            group: the same, of groups in whatever project.
            status: a status or several; also ``live`` (running with a fresh heartbeat) and ``stale`` (without).
            limit: at most that many; None for all.
            text: words, split at blanks. Each must be in the path, or, if it begins with a digit, in the SLURM id. The
                case of ASCII letters does not matter.
            started_after: start then or later: an aware datetime, or a timedelta before the last completed scan.
            started_before: start before it.
            active_after: the same for the last heartbeat.
            active_before: the same for the last heartbeat.
            order: ``started``, or ``activity``: by the last heartbeat.

        Raises:
            ValueError: a negative limit, a status or an order that does not exist, or a datetime without a zone.
        """
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
        """One page of ``list_all_jobs`` with a cursor to the next one, if there is one, and the total, if it is known.

        Jobs that come or go between two pages neither repeat nor hide the others. By activity, a run that beats between
        two pages may be missing from the later one.

        Raises:
            ValueError: as ``list_all_jobs``; a limit outside 1 to 1000; a cursor that no page with these filters and
                this order gave.
        """
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
        """One run, by the names of its directory."""
        return await self._read(job.get_job, project, group, name, run_id)

    async def get_job_runs(self, project: str, group: str, name: str) -> list[JobMetadata]:
        """Every run of one job name, newest start first."""
        return await self._read(listing.get_job_runs, project, group, name)

    async def list_projects(self) -> list[ProjectSummary]:
        """Every project with its totals, by name."""
        return await self._read(totals.list_projects)

    async def get_running_jobs(self) -> list[JobMetadata]:
        """Jobs that say ``running`` and whose heartbeat is fresh, newest start first."""
        return await self._read(running.get_running_jobs)

    async def get_recent_jobs(self, hours: float = 24, limit: int | None = 50) -> list[JobMetadata]:
        """Jobs that started within some hours before the last completed scan, newest first.

        Raises:
            ValueError: negative hours or a negative limit.
        """
        return await self._read(listing.get_recent_jobs, hours, limit)

    async def get_dashboard_stats(self) -> DashboardStats:
        """Totals of everything and of each project."""
        return await self._read(totals.get_dashboard_stats)

    async def counts(self) -> JobCounts:
        """Totals by status."""
        return await self._read(totals.counts)

    async def problems(self, prefix: str | None = None, limit: int | None = 100) -> list[Problem]:
        """Why runs are missing: paths that the refresher should read and does not, by path.

        Args:
            prefix: a path such as ``p/g/n/r``, or the first of its names, such as ``p/g``. Tells of the path itself, of
                what lies below it, and of the directories above it, since they hide what lies below them. Empty text
                and None are all.
            limit: at most that many; None for all that are kept, which is 1,000. ``counts().problems`` is exact.

        Raises:
            ValueError: a negative limit.
        """
        return await self._read(problems.problems, prefix, limit)

    # Freshness

    async def freshness(self) -> Freshness:
        """How fresh the cache is now. Answers also when there is no cache yet."""
        return await self._answer(freshness.freshness(self._source))

    async def meta(self) -> dict[str, str]:
        """What the refresher says of itself: the fields of ``meta``."""
        return await self._answer(freshness.meta(self._source))

    async def changes(
        self, since: str | None = None, *, wait: float | None = None
    ) -> AsyncIterator[Change]:
        """Jobs added, modified and deleted after a position, as they happen.

        Args:
            since: the ``position`` of the last change seen; None for what happens from now on.
            wait: seconds without a change after which the iterator ends; None for never.

        A ``resync`` says that changes were missed: list again, then go on.

        Raises:
            CacheUnavailable: and the iterator has ended; a new one ``since`` the last change seen goes on.
        """
        feed = changes.Feed(self._source, since, wait)
        while True:
            batch = await self._answer(feed.next_batch())
            if batch is None:
                return
            for change in batch:
                yield change

    # Writes

    async def delete_job(self, project: str, group: str, name: str, run_id: str) -> bool:
        """Have the refresher drop a run whose files were removed; gone for every worker when this returns.

        Returns whether it was there. A run whose files still exist comes back with the next scan: files are the truth.

        Raises:
            ValueError: no directory can bear these names.
            CacheUnavailable: no refresher did it within the deadline. The request waits for one.
        """
        return await self._write(
            writes.delete_job(self._source, project, group, name, run_id, self._deadline)
        )

    async def invalidate(self, project: str, group: str, name: str, run_id: str) -> None:
        """Have the refresher read a run again at once, also if its file looks unchanged, or discover it.

        Raises:
            ValueError: no directory can bear these names.
        """
        await self._answer(writes.invalidate(self._source, project, group, name, run_id))

    async def refresh(self, *, wait: bool = False, timeout: float = 60.0) -> Freshness:
        """Ask for a scan of the whole tree; with ``wait``, return once one that began after the call has completed.

        Raises:
            CacheUnavailable: none completed within ``timeout`` seconds.
        """
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
