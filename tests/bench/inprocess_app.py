"""The JSON API of `jobcache.web` as each worker would serve it from an in-process cache: `gunicorn ... -k asgi`.

The same framework, the same JSON library and the same answers, for the endpoints that the bench asks for; like the
baseline, it shares no code with the project. Configured by the variables below.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.bench.baseline import InProcessJobCache, JobMetadata

STATUS_DIR = "BENCH_STATUS_DIR"
REFRESH_ONCE = "BENCH_REFRESH_ONCE"
"""A file: as soon as it exists, the workers go on from their first scan to refresh in the background."""
LOOK_EVERY = 0.2

cache = InProcessJobCache(os.environ.get(STATUS_DIR, ""))
scanned = asyncio.Event()


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    # gunicorn waits for half a minute at most, a first scan may take longer: so the first requests wait instead.
    task = asyncio.create_task(_scan(os.environ[REFRESH_ONCE]))
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _scan(refresh_once: str) -> None:
    await asyncio.to_thread(cache.full_scan)
    scanned.set()
    while not Path(refresh_once).exists():
        await asyncio.sleep(LOOK_EVERY)
    await cache.refresh()


async def jobs(request: Request) -> Response:
    await scanned.wait()
    query = request.query_params
    found = cache.list_all_jobs(
        query.get("project"), query.get("group"), query.get("status"), limit=None
    )
    page = found[: int(query.get("limit", 100))]
    return _answer({"jobs": [_shown(job) for job in page], "total": len(found), "cursor": None})


async def running(_: Request) -> Response:
    await scanned.wait()
    return _answer({"jobs": [_shown(job) for job in cache.get_running_jobs()]})


async def job(request: Request) -> Response:
    await scanned.wait()
    names = request.path_params
    found = cache.get_job(names["project"], names["group"], names["name"], names["run_id"])
    if found is None:
        return _answer({"error": "no such job"}, status=404)
    return _answer(_shown(found))


async def stats(_: Request) -> Response:
    await scanned.wait()
    found = cache.get_dashboard_stats()
    return _answer({**dict(found), "projects": [dict(project) for project in found.projects]})


def _shown(job: JobMetadata) -> dict[str, Any]:
    return {
        **dict(job),
        "id": f"{job.project}/{job.group}/{job.name}/{job.run_id}",
        "duration": job.duration,
        "is_stale": job.is_stale,
        "hardware": dict(job.hardware),
    }


def _answer(body: Any, *, status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store", "X-Jobcache-Worker": str(os.getpid())}
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/api/jobs", jobs),
        Route("/api/jobs/running", running),
        Route("/api/jobs/{project}/{group}/{name}/{run_id}", job),
        Route("/api/dashboard/stats", stats),
    ],
)
