"""Which namespace is meant: what was given, else the variable, else ``default``; by the same rule everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobcache import AsyncJobCache, ConfigError, JobCache
from jobcache.cli.connection import Connection
from jobcache.web import JobApi
from jobcache_refresher import LocalJobCache, Refresher
from jobcache_refresher.settings import Settings
from tests.harness import Rig
from tests.programs import JOBCACHE, REFRESHER, run
from tests.trees import write_run

VARIABLE = "JOBCACHE_NAMESPACE"
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def filled(valkey_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    write_run(valkey_rig.status_dir, ("p", "g", "n", "r"))
    valkey_rig.refresh()
    monkeypatch.setenv("JOBCACHE_REDIS_URL", valkey_rig.url)
    monkeypatch.setenv(VARIABLE, valkey_rig.namespace)
    return valkey_rig


def test_clients_follow_the_variable(filled: Rig) -> None:
    async def look() -> list[str]:
        async with AsyncJobCache() as cache:
            return [job.run_id for job in await cache.list_all_jobs()]

    with JobCache() as cache:
        assert [job.run_id for job in cache.list_all_jobs()] == ["r"]
    assert asyncio.run(look()) == ["r"]


def test_the_json_api_follows_the_variable(filled: Rig) -> None:
    async def look() -> Any:
        transport = httpx.ASGITransport(JobApi())
        async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
            return (await client.get("/api/jobs")).json()

    assert asyncio.run(look())["total"] == 1


def test_programs_follow_the_variable(filled: Rig) -> None:
    env = {"JOBCACHE_REDIS_URL": filled.url, VARIABLE: filled.namespace}
    assert "p/g/n/r" in run(JOBCACHE, "ls", env=env).stdout
    checked = run(REFRESHER, "check", "--json", env=env | {"JOBCACHE_STATUS_DIR": "-"})
    assert f'"namespace":"{filled.namespace}"' in checked.stdout


def test_a_refresher_and_a_client_without_a_namespace_meet(
    filled: Rig, status_dir: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"{namespace}-other")
    with Refresher(status_dir), JobCache() as cache:
        assert [job.run_id for job in cache.list_all_jobs()] == ["r"]
    assert JobCache(namespace=f"{namespace}-other").freshness().generation > 0


CHOOSERS: dict[str, Callable[[str | None], object]] = {
    "JobCache": lambda given: JobCache(NOWHERE, namespace=given)._source.keys.namespace,
    "AsyncJobCache": lambda given: AsyncJobCache(NOWHERE, namespace=given)._source.keys.namespace,
    "Refresher": lambda given: Refresher("/s", url=NOWHERE, namespace=given).settings.namespace,
    "LocalJobCache": lambda given: LocalJobCache("/s", namespace=given)._source.keys.namespace,
    "settings": lambda given: Settings.create(status_dir="/s", namespace=given).namespace,
    "flags": lambda given: (
        Settings.from_environment({"status_dir": "/s", "namespace": given}).namespace
    ),
    "program": lambda given: Connection(namespace=given).checked_namespace(),
}


@pytest.mark.parametrize("choose", CHOOSERS.values(), ids=CHOOSERS.keys())
class TestTheRule:
    def test_namespace_that_is_given_counts_first(
        self, choose: Callable[[str | None], object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(VARIABLE, "variable")
        assert choose("given") == "given"
        assert choose("default") == "default"
        assert choose(None) == "variable"

    def test_namespace_variable_that_is_empty_counts_as_none(
        self, choose: Callable[[str | None], object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(VARIABLE, "")
        assert choose(None) == "default"
        monkeypatch.delenv(VARIABLE)
        assert choose(None) == "default"

    @pytest.mark.parametrize("bad", ["a b", "-", "{x}", "a\n"])
    def test_namespace_that_is_bad_is_named_with_its_source(
        self, choose: Callable[[str | None], object], bad: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(ConfigError) as refused:
            choose(bad)
        assert "namespace=" in str(refused.value)
        assert repr(bad) in str(refused.value)
        monkeypatch.setenv(VARIABLE, bad)
        with pytest.raises(ConfigError) as refused:
            choose(None)
        assert str(refused.value).startswith(f"{VARIABLE}={bad!r}: ")
        assert choose("given") == "given"

    def test_namespace_of_empty_text_is_refused(
        self, choose: Callable[[str | None], object]
    ) -> None:
        with pytest.raises(ConfigError, match="namespace=''"):
            choose("")
