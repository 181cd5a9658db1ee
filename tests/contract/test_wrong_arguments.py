"""Whatever a caller passes: a value that cannot be used is an error of ours that names the argument."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from jobcache import AsyncJobCache, JobCache, JobCacheError
from tests.servers import RunningServer

ODD: tuple[Any, ...] = (
    None,
    "",
    0,
    -1,
    1.5,
    math.nan,
    math.inf,
    True,
    b"x",
    "\ud800",
    "a/b",
    "\0",
    [],
    {},
    object(),
    10**30,
    "x" * 10_000,
    ("a",),
    float,
)
CLIENTS = (JobCache, AsyncJobCache)
SHAPES = [name for name in dir(JobCache) if not name.startswith("_")]


def arguments(call: Any) -> list[str]:
    return [name for name in inspect.signature(call).parameters if name != "self"]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", arguments(JobCache.__init__))
def test_a_constructor_refuses_by_name(client: Any, name: str) -> None:
    for value in ODD:
        given = {"url": "redis://localhost:1", name: value}
        said = refusal(partial(client, **given))
        assert said is None or said.startswith(name), value


SHORT = {"changes": {"wait": 0.0}, "refresh": {"timeout": 0.05}}
"""What keeps a call from waiting for somebody who is not there."""

CALLS = [
    (call, argument)
    for call in SHAPES
    if callable(getattr(JobCache, call)) and call not in {"start", "stop", "open", "close"}
    for argument in arguments(getattr(JobCache, call))
]


@pytest.mark.parametrize(("call", "argument"), CALLS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_call_refuses_by_name(
    valkey: RunningServer, namespace: str, client: Any, call: str, argument: str
) -> None:
    needed = inspect.signature(getattr(JobCache, call)).parameters.values()
    others = {one.name: "p" for one in needed if one.default is one.empty and one.name != "self"}
    for value in ODD:
        if (call, argument, value) == ("changes", "wait", None):
            continue  # waits for ever
        given = {**others, **SHORT.get(call, {}), argument: value}
        cache = client(valkey.url, namespace=namespace)
        said = refusal(partial(finish, cache, call, given))
        assert said is None or argument in said or "no directory can bear" in said, value


def refusal(call: Callable[[], object]) -> str | None:
    """What a call says of the arguments; None if it is content with them."""
    try:
        call()
    except JobCacheError:
        return None
    except (ValueError, TypeError) as error:
        return str(error)
    return None


def finish(cache: Any, call: str, given: dict[str, Any]) -> None:
    async def run() -> None:
        try:
            answer = getattr(cache, call)(**given)
            if inspect.isawaitable(answer):
                await answer
            elif hasattr(answer, "__anext__"):
                await anext(answer)
            elif hasattr(answer, "__next__"):
                next(answer)
        finally:
            await cache.stop()

    asyncio.run(run())
