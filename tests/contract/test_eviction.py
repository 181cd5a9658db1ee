"""Keys that the server drops to make room, and servers that do not tell of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError

from jobcache import CacheNotReady
from jobcache_refresher.publish.server import EpochError, FencedError
from jobcache_refresher.scan.scope import Scope
from tests.contract.compare import assert_agrees
from tests.contract.damage import change, fill, limited, recover
from tests.harness import Rig
from tests.servers import RunningServer, running_server


class TestEvictions:
    @pytest.mark.parametrize("kind", ["valkey-9", "redis-7.0"])
    def test_eviction_of_any_key_is_noticed(
        self, kind: str, status_dir: Path, namespace: str
    ) -> None:
        count = 400
        fill(status_dir, count)
        with running_server(kind) as server, Rig(server.url, status_dir, namespace) as rig:
            redis = server.client()
            rig.settle()
            assert "policy_warning" not in rig.cache.meta()
            used = redis.info("memory")["used_memory"]
            redis.config_set("maxmemory-policy", "allkeys-lru")
            redis.config_set("maxmemory", used + 100_000)
            squeeze(redis, lambda: bool(redis.info("stats")["evicted_keys"]))
            redis.config_set("maxmemory", 0)
            recover(rig)
            assert_agrees(rig)
            assert rig.cache.meta()["policy_warning"].startswith("maxmemory-policy is allkeys-lru")
            redis.close()

    def test_eviction_while_the_cache_is_built_never_lets_it_be_ready(
        self, status_dir: Path, namespace: str
    ) -> None:
        """A cache that does not fit is never ready."""
        fill(status_dir, 600)
        with running_server("valkey-9") as server, Rig(server.url, status_dir, namespace) as rig:
            redis = server.client()
            used = redis.info("memory")["used_memory"]
            redis.config_set("maxmemory-policy", "allkeys-random")
            redis.config_set("maxmemory", used + 600_000)
            for _ in range(3):
                try:
                    assert not rig.refresh()
                except FencedError:
                    rig.refresher.lead()
                except EpochError:
                    pass
                with pytest.raises(CacheNotReady):
                    rig.cache.list_all_jobs()
            redis.config_set("maxmemory", 0)
            recover(rig)
            assert_agrees(rig)
            redis.close()

    def test_eviction_of_volatile_keys_takes_the_lease_alone(
        self, status_dir: Path, namespace: str
    ) -> None:
        """They take the lease, and nothing else."""
        fill(status_dir, 100)
        with running_server("valkey-9") as server, Rig(server.url, status_dir, namespace) as rig:
            redis = server.client()
            rig.settle()
            epoch = rig.cache.freshness().epoch
            redis.config_set("maxmemory-policy", "volatile-lru")
            redis.config_set("maxmemory", redis.info("memory")["used_memory"] + 100_000)
            squeeze(redis, lambda: not redis.exists(rig.refresher.keys.lease))
            redis.config_set("maxmemory", 0)
            with pytest.raises(FencedError):
                rig.refresh(Scope.POLL)
            rig.refresher.lead()
            rig.refresh(Scope.POLL)
            assert_agrees(rig)
            assert rig.cache.freshness().epoch == epoch
            assert "policy_warning" not in rig.cache.meta()
            redis.close()


def squeeze(redis: Redis, done: Callable[[], bool]) -> None:
    """Write other keys until the server had to make room."""
    for number in range(2_000):
        with suppress(OutOfMemoryError):
            redis.set(f"other:{number}", "x" * 1_000, ex=10_000)
        if done():
            return
    pytest.fail("nothing was evicted")


class TestDenied:
    def test_audit_where_info_and_config_are_denied_repairs_all_the_same(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        fill(status_dir, 5)
        url = limited(valkey, f"w-{namespace}", "+@all", "-info", "-config")
        with Rig(url, status_dir, namespace) as rig, valkey.client() as redis:
            rig.settle()
            rig.refresh(Scope.POLL, audit=True)
            change(rig, redis, ("DEL", "status:running"))
            rig.refresh(Scope.POLL)
            assert_agrees(rig)
            assert "policy_warning" not in rig.cache.meta()
