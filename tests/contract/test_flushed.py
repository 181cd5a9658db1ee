"""A server that was flushed: whoever notices it first, the cache is built anew from memory."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from jobcache import CacheState
from jobcache_refresher.leadership import Phase
from jobcache_refresher.publish.server import FencedError
from tests.contract.damage import keys_of
from tests.faults.faulty import FaultyTree
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import write_run


@pytest.mark.parametrize("noticed_by", ["renewal", "write"])
def test_flush_of_a_leader_is_rebuilt_from_memory_without_the_tree(
    valkey: RunningServer, status_dir: Path, namespace: str, noticed_by: str
) -> None:
    for number in range(3):
        write_run(status_dir, ("p", "g", "n", f"r{number}"), status="completed")
    tree = FaultyTree(str(status_dir))
    with Rig(valkey.url, status_dir, namespace, tree=tree) as rig, valkey.client() as redis:
        rig.refresh()
        epoch = rig.cache.freshness().epoch
        redis.delete(*keys_of(rig, redis))
        tree.fail(errno.EIO, lambda path: True)
        leadership = rig.refresher.leadership
        if noticed_by == "renewal":
            assert not rig.refresher.lease.renew()
        else:
            with pytest.raises(FencedError) as lost:
                rig.refresh()
            leadership.lose_lease(lost.value)
        for _ in range(3):
            leadership.turn()
        assert leadership.phase is Phase.LEADING
        fresh = rig.cache.freshness()
        assert (fresh.epoch != epoch, fresh.state) == (True, CacheState.DEGRADED)
        assert len(rig.cache.list_all_jobs()) == 3
        tree.heal()
