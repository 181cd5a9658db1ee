"""The same calls on either client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from jobcache import AsyncJobCache, CacheUnavailable, JobCache
from tests.servers import RunningServer
from tests.trees import Names

DEADLINE = 0.5


SLACK = 0.3
"""Seconds beyond a deadline that a call may take on a machine that is busy."""


RUN: Names = ("p", "g", "n", "r1")


class Caller:
    """The same calls on either client."""

    def __init__(self, kind: str, url: str, **options: Any) -> None:
        self._loop = asyncio.Runner() if kind == "async" else None
        made = AsyncJobCache if self._loop else JobCache
        self.cache: Any = made(url, **{"deadline": DEADLINE, **options})

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            answer = getattr(self.cache, name)(*args, **options)
            if self._loop is None:
                return list(answer) if name == "changes" else answer
            if name == "changes":
                return self._loop.run(collect(answer))
            return self._loop.run(answer)

        return call

    @property
    def last_freshness(self) -> Any:
        async def read() -> Any:
            return self.cache.last_freshness

        return self._loop.run(read()) if self._loop else self.cache.last_freshness

    def close(self) -> None:
        if self._loop is None:
            self.cache.close()
        else:
            self._loop.run(self.cache.stop())
            self._loop.close()


async def collect(changes: Any) -> list[Any]:
    return [change async for change in changes]


def credentials(server: RunningServer) -> str:
    return server.url.removeprefix("unix://").rpartition("@")[0] + "@"


def assert_fails_in_time(call: Callable[[], Any], match: str = ".", most: float = DEADLINE) -> None:
    began = time.monotonic()
    with pytest.raises(CacheUnavailable, match=match):
        call()
    assert time.monotonic() - began < most + SLACK


def refusal_of(call: Callable[[], Any]) -> str:
    with pytest.raises(CacheUnavailable) as refused:
        call()
    return str(refused.value)
