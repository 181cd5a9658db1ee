"""What a caller reads of a call: the same in both clients, and whole."""

from __future__ import annotations

import inspect

import pytest

from jobcache import AsyncJobCache, JobCache

LIFECYCLE = {"start", "stop", "open", "close"}
"""Told otherwise, since the two begin and end otherwise."""
CALLS = sorted(
    name
    for name in vars(JobCache).keys() & vars(AsyncJobCache).keys()
    if not name.startswith("_") and name not in LIFECYCLE
)


def arguments(client: type) -> str:
    return (inspect.getdoc(client) or "").partition("Args:")[2]


@pytest.mark.parametrize("name", CALLS)
def test_docstring_of_an_async_call_is_that_of_the_sync_one(name: str) -> None:
    sync, awaited = (inspect.getdoc(getattr(client, name)) for client in (JobCache, AsyncJobCache))
    assert awaited == sync


def test_docstring_of_each_client_explains_every_argument() -> None:
    assert arguments(AsyncJobCache) == arguments(JobCache)
    for name in list(inspect.signature(JobCache).parameters):
        assert f"\n    {name}: " in arguments(JobCache), name


def test_docstring_of_start_is_that_of_open() -> None:
    assert inspect.getdoc(AsyncJobCache.start) == inspect.getdoc(JobCache.open)
