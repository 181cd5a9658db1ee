"""The async client beside the sync one, and namespaces beside each other."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import pytest

from jobcache import AsyncJobCache, CacheNotReady, JobCache
from tests.contract.client_runs import OTHER, RUN
from tests.contract.compare import names_of
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import write_run


class TestAsync:
    def test_the_two_clients_have_the_same_calls(self) -> None:
        def surface(cls: type) -> dict[str, list[str]]:
            return {
                name: [
                    str(parameter) for parameter in inspect.signature(member).parameters.values()
                ]
                for name, member in vars(cls).items()
                if callable(member) and not name.startswith("_") and name not in {"open", "close"}
            }

        assert surface(AsyncJobCache) == surface(JobCache)

    def test_the_two_clients_give_the_same_answers(self, rig: Rig) -> None:
        for number in range(5):
            write_run(rig.status_dir, ("p", f"g{number % 2}", "n", f"r{number}"))
        rig.refresh()

        async def ask() -> None:
            async with rig.async_client() as cache:
                assert await cache.list_all_jobs() == rig.cache.list_all_jobs()
                assert await cache.get_job("p", "g0", "n", "r0") == rig.cache.get_job(
                    "p", "g0", "n", "r0"
                )
                assert await cache.get_dashboard_stats() == rig.cache.get_dashboard_stats()
                page = await cache.page(limit=2)
                assert page.jobs == rig.cache.page(limit=2).jobs
                assert cache.last_freshness == page.freshness
                assert [change async for change in cache.changes(wait=0)] == []
                assert await cache.meta() == rig.cache.meta()
                answers = await asyncio.gather(*(cache.list_projects() for _ in range(50)))
                assert answers == [rig.cache.list_projects()] * 50
                assert await cache.delete_job("p", "g0", "n", "r0") is True
                assert await cache.get_job("p", "g0", "n", "r0") is None

        asyncio.run(ask())

    def test_one_cache_on_several_event_loops(self, rig: Rig) -> None:
        rig.refresh()
        cache = AsyncJobCache(rig.url, namespace=rig.namespace)

        async def ask() -> None:
            assert await cache.list_all_jobs() == []
            await cache.stop()

        asyncio.run(ask())
        asyncio.run(ask())

    def test_the_sync_client_in_an_async_application(self, rig: Rig) -> None:
        rig.refresh()

        async def live() -> None:
            cache = JobCache(rig.url, namespace=rig.namespace)
            await cache.start()
            assert cache.list_all_jobs() == []
            await cache.stop()

        asyncio.run(live())

    def test_async_client_not_ready_names_the_place(
        self, server: RunningServer, namespace: str
    ) -> None:
        async def live() -> None:
            cache = AsyncJobCache(server.url, namespace=namespace, ready_timeout=0.1)
            with pytest.raises(CacheNotReady, match=namespace):
                await cache.start()
            await cache.stop()

        asyncio.run(live())


class TestNamespaces:
    def test_namespaces_do_not_see_each_other(self, rig: Rig, tmp_path: Path) -> None:
        other_dir = tmp_path / "other"
        other_dir.mkdir()
        write_run(rig.status_dir, RUN)
        write_run(other_dir, OTHER)
        rig.refresh()
        with Rig(rig.url, other_dir, rig.namespace + "-2") as other:
            other.refresh()
            assert names_of(other.cache.list_all_jobs()) == [OTHER]
            assert names_of(rig.cache.list_all_jobs()) == [RUN]
