"""The endpoints, and the life of a worker."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from jobcache.aio import AsyncJobCache
from jobcache.errors import (
    CacheNotReady,
    CacheUnavailable,
    ConfigError,
    JobCacheError,
    SchemaMismatch,
)
from jobcache.models import Freshness, JobMetadata
from jobcache.queries.filters import TIMES
from jobcache.queries.listing import LARGEST_PAGE
from jobcache.queries.stale_if_error import check_stale_if_error
from jobcache.web.answers import (
    EXCEPTION_HANDLERS,
    RETRY,
    answer,
    freshness_headers,
    not_modified,
    revalidated,
    show_job,
    without_body,
)
from jobcache.web.etag import has_etag, make_etag
from jobcache.web.fields import read_fields
from jobcache.web.loops import LoopThread, runs_asyncio
from jobcache.web.paths import asked_path
from jobcache.web.query import BadParameter, Query, path_names

T = TypeVar("T")

PREFIX = "/api/"
"""What every path but ``/`` begins with."""
ENDPOINTS = {
    "/api/jobs": "project= group= status= text= started_after= started_before= active_after= active_before= "
    "order=started limit=100 cursor= fields= config=1; the first three may be repeated",
    "/api/jobs/running": "fields= config=1",
    "/api/jobs/recent": "hours=24 limit=50 fields= config=1",
    "/api/jobs/{project}/{group}/{name}": "every run of one job; fields= config=1",
    "/api/jobs/{project}/{group}/{name}/{run_id}": "one run; fields= config=1",
    "/api/projects": "",
    "/api/dashboard/stats": "",
    "/api/problems": "prefix= limit=100",
    "/api/health": "200 when ready or degraded, else 503",
}
"""What ``GET /`` lists: the paths, and the parameters of each with their defaults."""


GZIP_FROM = 1000
"""Bytes of the smallest answer that is compressed, for clients that take that."""
GZIP_LEVEL = 1
"""The fastest: a list of configs, which are alike, shrinks to a fifteenth all the same."""

STALE_IF_ERROR_VARIABLE = "JOBCACHE_STALE_IF_ERROR"
"""Seconds for which old answers may stand in while Redis does not answer; empty for none."""


class JobApi:
    """The ASGI application.

    Args:
        cache: what to answer from; by default one that the environment configures.
    """

    def __init__(self, cache: AsyncJobCache | None = None) -> None:
        self._configured = cache
        self._asyncio = LoopThread()
        routes = {
            "/": self.index,
            "/api/health": self.health,
            "/api/jobs": self.jobs,
            "/api/jobs/running": self.running,
            "/api/jobs/recent": self.recent,
            "/api/jobs/{project}/{group}/{name}": self.runs,
            "/api/jobs/{project}/{group}/{name}/{run_id}": self.job,
            "/api/projects": self.projects,
            "/api/dashboard/stats": self.stats,
            "/api/problems": self.problems,
        }
        self._http = Starlette(
            routes=[Route(path, endpoint) for path, endpoint in routes.items()],
            exception_handlers=EXCEPTION_HANDLERS,
            middleware=[
                Middleware(GZipMiddleware, minimum_size=GZIP_FROM, compresslevel=GZIP_LEVEL)
            ],
        )
        self._http.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the worker's life."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] == "http":
            # Routes match what the client sent, still encoded: a decoded name may hold anything, "%2F" included.
            scope = {**scope, "path": asked_path(scope, PREFIX), "root_path": ""}
            if scope["method"] == "HEAD":
                send = without_body(send)
            if not runs_asyncio():
                await self._asyncio.serve(self._http, scope, send)
                return
        await self._http(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        # Starlette's own lifespan would report a bad setting as a traceback.
        await receive()
        try:
            cache = self._cache
        except ConfigError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await (cache.stop() if runs_asyncio() else self._asyncio.run(cache.stop()))
        await send({"type": "lifespan.shutdown.complete"})

    @property
    def _cache(self) -> AsyncJobCache:
        if self._configured is None:
            self._configured = AsyncJobCache(stale_if_error=_configured_stale_if_error())
        return self._configured

    # Endpoints

    async def index(self, _: Request) -> Response:
        """What there is to ask for."""
        return answer({"jobcache": ENDPOINTS})

    async def health(self, _: Request) -> Response:
        """Whether queries are answered, and how old the answers are.

        200 while degraded as well: the answers are whole, and a worker that is taken away makes them no newer.
        """
        try:
            await self._cache.list_all_jobs(limit=0)
            found, serves = self._fresh, True
        except CacheNotReady:
            found, serves = await self._cache.freshness(), False
        except (CacheUnavailable, SchemaMismatch) as error:
            state = {"state": "unavailable", "reason": str(error), "worker": os.getpid()}
            return answer(state, status=503, headers=RETRY)
        return answer(
            {**dict(found), "worker": os.getpid()},
            status=200 if serves else 503,
            headers=freshness_headers(found) | ({} if serves else RETRY),
        )

    async def jobs(self, request: Request) -> Response:
        """One page of the jobs that match the filters, newest first."""
        query = Query(request)
        names = read_fields(query)
        page = await self._ask(
            self._cache.page(
                query.texts("project"),
                query.texts("group"),
                query.texts("status"),
                query.count("limit", 100, least=1, most=LARGEST_PAGE),
                query.text("cursor"),
                text=query.text("text"),
                order=query.text("order") or "started",
                **{name: query.time(name) for name in TIMES},
            )
        )
        return self._listing(
            request,
            lambda: {
                "jobs": [show_job(job, names) for job in page.jobs],
                "total": page.total,
                "cursor": page.cursor,
            },
        )

    async def running(self, request: Request) -> Response:
        """Jobs that run and whose heartbeat is fresh, newest start first."""
        names = read_fields(Query(request))
        return self._jobs(request, await self._ask(self._cache.get_running_jobs()), names)

    async def recent(self, request: Request) -> Response:
        """Jobs that started within some hours before the last scan, newest start first."""
        query = Query(request)
        names, hours, limit = (
            read_fields(query),
            query.amount("hours", 24.0),
            query.count("limit", 50),
        )
        return self._jobs(
            request, await self._ask(self._cache.get_recent_jobs(hours, limit)), names
        )

    async def runs(self, request: Request) -> Response:
        """Every run of one job name, newest start first."""
        names = read_fields(Query(request))
        found = await self._ask(self._cache.get_job_runs(*path_names(request)))
        return self._jobs(request, found, names)

    async def job(self, request: Request) -> Response:
        """One run, or 404."""
        names, path = read_fields(Query(request)), path_names(request)
        found = await self._ask(self._cache.get_job(*path))
        if found is None:
            error = {"error": f"no job {'/'.join(path)!r}"}
            return answer(error, status=404, headers=freshness_headers(self._fresh))
        return self._answer(request, lambda: show_job(found, names))

    async def projects(self, request: Request) -> Response:
        """Every project with its totals, by name."""
        found = await self._ask(self._cache.list_projects())
        return self._listing(
            request, lambda: {"projects": [project.model_dump() for project in found]}
        )

    async def stats(self, request: Request) -> Response:
        """Totals of everything and of each project."""
        found = await self._ask(self._cache.get_dashboard_stats())
        return self._answer(request, found.model_dump)

    async def problems(self, request: Request) -> Response:
        """What the refresher should read and does not, by path."""
        query = Query(request)
        found = await self._ask(
            self._cache.problems(query.text("prefix"), query.count("limit", 100))
        )
        return self._listing(request, lambda: {"problems": [dict(problem) for problem in found]})

    # Answers

    async def _ask(self, call: Awaitable[T]) -> T:
        """What a call of the cache returns; what it refuses is a bad parameter."""
        try:
            return await call
        except JobCacheError:
            raise
        except ValueError as refused:
            raise BadParameter(str(refused)) from None

    @property
    def _fresh(self) -> Freshness:
        """How fresh the answer is that this request got."""
        fresh = self._cache.last_freshness
        assert fresh is not None
        return fresh

    def _jobs(
        self, request: Request, jobs: Sequence[JobMetadata], names: Sequence[str] | None
    ) -> Response:
        return self._listing(request, lambda: {"jobs": [show_job(job, names) for job in jobs]})

    def _listing(self, request: Request, make: Callable[[], dict[str, Any]]) -> Response:
        return self._answer(request, lambda: {**make(), "freshness": dict(self._fresh)})

    def _answer(self, request: Request, make: Callable[[], dict[str, Any]]) -> Response:
        """The answer that ``make`` makes, unless the client has it already."""
        fresh = self._fresh
        etag = make_etag(request, fresh)
        headers = freshness_headers(fresh) | revalidated(etag)
        if has_etag(request, etag):
            return not_modified(headers)
        return answer(make(), headers=headers)


def _configured_stale_if_error() -> float | None:
    text = os.environ.get(STALE_IF_ERROR_VARIABLE)
    if not text:
        return None
    try:
        return check_stale_if_error(float(text))
    except ValueError:
        raise ConfigError(
            f"{STALE_IF_ERROR_VARIABLE}={text!r}: use a number of seconds from 0, or leave it empty"
        ) from None
