"""The JSON API below mounts and prefixes, and behind middleware: the same answers everywhere."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from jobcache import AsyncJobCache
from jobcache.web import JobApi
from tests.integration.web import NAMESPACE, ODD_NAMES, Api, get, path_of
from tests.servers import RunningServer
from tests.trees import shown_names


class Changed:
    """A middleware that changes the path, and leaves the address as it was sent."""

    def __init__(self, app: ASGIApp, change: Callable[[str], str]) -> None:
        self._app = app
        self._change = change

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "path": self._change(scope["path"])}, receive, send)


class Rooted:
    """A server that was told of a proxy's prefix."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "root_path": "/prefix"}, receive, send)


class Nothing(BaseHTTPMiddleware):
    """A middleware that passes everything on."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


def mounted(api: JobApi) -> ASGIApp:
    app = FastAPI()
    app.mount("/jobs", api)
    return app


def mounted_behind_a_proxy(api: JobApi) -> ASGIApp:
    return Rooted(mounted(api))


def mounted_twice(api: JobApi) -> ASGIApp:
    return Starlette(routes=[Mount("/a b", routes=[Mount("/\xfc", app=api)])])


def mounted_where_its_own_paths_begin(api: JobApi) -> ASGIApp:
    return Starlette(routes=[Mount("/api", app=api)])


def stripped(api: JobApi) -> ASGIApp:
    return Changed(api, lambda path: path.removeprefix("/v1"))


def plain(api: JobApi) -> ASGIApp:
    return api


PLACES: dict[str, tuple[Callable[[JobApi], ASGIApp], str]] = {
    "alone": (plain, ""),
    "behind a proxy": (Rooted, ""),
    "behind a proxy that keeps its prefix": (Rooted, "/prefix"),
    "mounted": (mounted, "/jobs"),
    "mounted behind a proxy": (mounted_behind_a_proxy, "/jobs"),
    "mounted behind a proxy that keeps its prefix": (mounted_behind_a_proxy, "/prefix/jobs"),
    "mounted twice": (mounted_twice, "/a%20b/%C3%BC"),
    "mounted where its own paths begin": (mounted_where_its_own_paths_begin, "/api"),
    "cut by a middleware": (stripped, "/v1"),
    "compressed": (GZipMiddleware, ""),
    "passed on": (Nothing, ""),
}


NAMES = [names for names in ODD_NAMES if "\n" not in "".join(names)]
"""Starlette's mounts pass on no path that holds a line break."""


@pytest.mark.parametrize("place", PLACES)
def test_api_answers_alike_wherever_it_stands(web_server: RunningServer, place: str) -> None:
    stand, prefix = PLACES[place]
    cache = AsyncJobCache(web_server.url, namespace=NAMESPACE)
    with closing(Api(stand(JobApi(cache)), cache)) as api:
        for path in ("/api/jobs?limit=3", "/api/projects", "/api/health", "/"):
            get(api, prefix + path)
        for names in NAMES if "mounted" in place else ODD_NAMES:
            told = shown_names(names)
            assert get(api, prefix + path_of(*names))["id"] == "/".join(told)
            assert get(api, prefix + path_of(*told))["id"] == "/".join(told)
        assert api.get(f"{prefix}/nothing").status_code == 404


def test_api_behind_a_middleware_that_renames_a_path_answers_it(web_server: RunningServer) -> None:
    cache = AsyncJobCache(web_server.url, namespace=NAMESPACE)
    renamed = Changed(JobApi(cache), {"/status.json": "/api/dashboard/stats"}.__getitem__)
    with closing(Api(renamed, cache)) as api:
        assert get(api, "/status.json")["total_jobs"] == 235


def test_api_that_is_mounted_with_a_bad_setting_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody runs the lifespan of a mounted application, so the first request is told."""
    monkeypatch.setenv("JOBCACHE_REDIS_URL", "http://u:secret@h")
    with closing(Api(mounted(JobApi()), AsyncJobCache("redis://h"))) as api:
        answer = api.get("/jobs/api/jobs")
    assert answer.status_code == 500
    assert "JOBCACHE_REDIS_URL=http://u:***@h" in answer.json()["error"]
