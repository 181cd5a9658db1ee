"""The JSON API in this process, and names that it must bear."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from starlette.types import ASGIApp

from jobcache import AsyncJobCache
from jobcache.web import JobApi
from tests.trees import Names, write_run

T = TypeVar("T")

NAMESPACE = "web"


ODD_NAMES: list[Names] = [
    (os.fsdecode(b"p\xff"), os.fsdecode(b"\xfe\xfd"), "n", "20260101_000000"),
    ("p%2Fq", "a+b c", "n?x=1&y#z", "r\nr"),
    ("running", "ünïcode", "recent", "..."),
    ("recent", "health", '"quoted"', "\\"),
]


DEFAULT_NAMES: Names = ("general", "default", "no_project", "20260101_000001")


def build_odd_runs(root: Path) -> None:
    for names in ODD_NAMES:
        write_run(root, names, status="completed")
    odd_config = {
        "nan": float("nan"),
        "deep": [{"inf": float("-inf")}],
        "lone \udcff": "\ud800",
        "big": 10**30,
    }
    write_run(root, DEFAULT_NAMES, project=None, group=None, config=odd_config)


class Api:
    """The application in this process, with one event loop for all requests as a worker has."""

    def __init__(self, app: ASGIApp, cache: AsyncJobCache, *, raises: bool = True) -> None:
        self._cache = cache
        self._loop = asyncio.Runner()
        transport = httpx.ASGITransport(app, raise_app_exceptions=raises)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://web")

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def request(
        self, method: str, path: str, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        return self.run(self._client.request(method, path, headers=headers))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the same event loop."""
        return self._loop.run(work)

    def close(self) -> None:
        self._loop.run(self._client.aclose())
        self._loop.run(self._cache.stop())
        self._loop.close()


@contextmanager
def api_of(url: str, namespace: str) -> Iterator[Api]:
    cache = AsyncJobCache(url, namespace=namespace)
    with closing(Api(JobApi(cache), cache)) as api:
        yield api


def get(client: Api, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return strict_json(answer.text)


def strict_json(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def path_of(*names: str) -> str:
    return "/api/jobs/" + "/".join(quote(os.fsencode(name), safe="") for name in names)


def ids(listing: dict[str, Any]) -> list[str]:
    return [job["id"] for job in listing["jobs"]]


def without_ages(value: Any) -> Any:
    """An answer without what depends on the moment of asking."""
    if isinstance(value, dict):
        return {key: without_ages(item) for key, item in value.items() if key != "age"}
    return [without_ages(item) for item in value] if isinstance(value, list) else value


def digest(answer: dict[str, Any]) -> str:
    """A fingerprint of an answer, without what depends on the moment of asking."""
    kept = without_ages({key: value for key, value in answer.items() if key != "freshness"})
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
