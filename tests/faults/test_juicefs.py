"""A refresher on a real JuiceFS mount that fails, while producers write through another mount."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from jobcache import CacheState, JobCache
from jobcache.schema.keys import Keys
from tests.faults.mounted import (
    CLOSES_WITHIN,
    INTERVAL,
    RELIST,
    SLACK,
    Site,
    Watch,
    await_heartbeat,
    await_state,
    beat,
    descriptors_on,
    seconds_until,
    shows,
    some_runs,
    write_all,
)
from tests.juicefs import ATTRIBUTES_LAST, JuiceFS, Mount
from tests.servers import RunningServer
from tests.trees import Names, write_run

# A mount that fails


def test_a_dead_mount_deletes_nothing(volume: JuiceFS, site: Site) -> None:
    runs = some_runs(20)
    write_all(site, runs)
    with site.refreshed() as cache, Watch(site) as watch:
        volume.kill(volume.refresher)
        degraded = await_state(cache, CacheState.DEGRADED)
        assert degraded.reason
        assert "not connected" in degraded.reason
        time.sleep(3 * INTERVAL)
        meanwhile = beat(site, runs[0])
        _recovers(volume, site, cache, runs[0], meanwhile)
        assert not descriptors_on(dead=True)
    watch.always_showed(runs)


def _recovers(volume: JuiceFS, site: Site, cache: JobCache, changed: Names, heartbeat: str) -> None:
    """After a remount, what changed meanwhile shows within two polls, and what changes from then on within one."""
    volume.remount(volume.refresher)
    await_heartbeat(cache, changed, heartbeat, within=2 * INTERVAL + SLACK)
    ready = await_state(cache, CacheState.READY, within=2 * INTERVAL + SLACK)
    assert not ready.reason
    for _ in range(2):
        time.sleep(INTERVAL)
        await_heartbeat(cache, changed, beat(site, changed), within=INTERVAL + SLACK)


@pytest.mark.parametrize("at", ["the mount point", "a directory below"])
def test_a_lazily_unmounted_filesystem_deletes_nothing(
    volume: JuiceFS, valkey: RunningServer, site: Site, at: str
) -> None:
    if at == "the mount point":  # turns empty, while a directory below it vanishes
        site = Site(volume.producer.path, volume.refresher.path, valkey.url, site.namespace)
    runs = some_runs(20, project=f"lazy-{uuid4().hex[:8]}")
    write_all(site, runs)
    with site.refreshed() as cache, Watch(site) as watch:
        assert all(shows(cache, names) for names in runs)
        volume.lazy_unmount(volume.refresher)
        degraded = await_state(cache, CacheState.DEGRADED)
        assert degraded.reason
        time.sleep(3 * INTERVAL)
        meanwhile = beat(site, runs[0])
        _recovers(volume, site, cache, runs[0], meanwhile)
    watch.always_showed(runs)
    shutil.rmtree(site.producer / runs[0][0])


def test_a_remount_in_one_go_is_no_fault(volume: JuiceFS, site: Site) -> None:
    runs = some_runs(20)
    write_all(site, runs)
    with site.refreshed() as cache, Watch(site) as watch:
        time.sleep(2 * INTERVAL)
        meanwhile = beat(site, runs[0])
        _recovers(volume, site, cache, runs[0], meanwhile)
    watch.always_showed(runs)


def test_a_mount_that_was_replaced_is_held_no_longer(volume: JuiceFS, site: Site) -> None:
    # Descriptors of the mount before would answer for ever, and its daemon cannot end before they are closed.
    write_all(site, some_runs(5))
    with site.refreshed() as cache:
        device = site.refresher.stat().st_dev
        # While one of them is held, no other mount gets the number of its device.
        seconds_until(lambda: bool(descriptors_on(device)), within=RELIST)
        volume.remount(volume.refresher)
        assert site.refresher.stat().st_dev != device
        seconds_until(
            lambda: not descriptors_on(device), within=RELIST, but=lambda: descriptors_on(device)
        )
        await_state(cache, CacheState.READY)


def test_a_refresher_that_stopped_holds_nothing(site: Site) -> None:
    write_all(site, some_runs(5))
    device = site.refresher.stat().st_dev
    before = descriptors_on(device)
    with site.refreshed() as cache:
        time.sleep(2 * INTERVAL)
        await_state(cache, CacheState.READY)
    assert descriptors_on(device) == before


def test_another_filesystem_in_its_place_deletes_nothing(
    volume: JuiceFS, site: Site, tmp_path: Path
) -> None:
    runs = some_runs(20)
    write_all(site, runs)
    with site.refreshed() as cache, Watch(site) as watch:
        volume.lazy_unmount(volume.refresher)
        # What the mount covered has a status directory too, with another project in it.
        below = volume.refresher.path / site.refresher.name
        write_run(below, ("stranger", "g", "n", "r"))
        try:
            degraded = await_state(cache, CacheState.DEGRADED)
            assert degraded.reason
            time.sleep(3 * INTERVAL)
        finally:
            shutil.rmtree(below)
        meanwhile = beat(site, runs[0])
        _recovers(volume, site, cache, runs[0], meanwhile)
    watch.always_showed(runs)
    assert not any("stranger" in names for sample in watch.samples for names in sample.jobs)


@pytest.mark.parametrize("harm", [JuiceFS.kill, JuiceFS.lazy_unmount])
def test_a_project_of_a_local_tree_that_is_a_juicefs_mount_is_guarded_alone(
    volume: JuiceFS,
    valkey: RunningServer,
    namespace: str,
    harm: Callable[[JuiceFS, Mount], None],
) -> None:
    root, group = volume.producer.path.parent, f"g-{uuid4().hex[:8]}"
    ours: Names = (volume.refresher.path.name, group, "n", "r")
    theirs: Names = (volume.producer.path.name, group, "n", "r")
    site = Site(root, root, valkey.url, namespace)
    write_run(root, theirs)
    try:
        with site.refreshed() as cache, Watch(site) as watch:
            assert shows(cache, ours)
            harm(volume, volume.refresher)
            degraded = await_state(cache, CacheState.DEGRADED)
            assert f"not read: '{ours[0]}' " in (degraded.reason or "")
            time.sleep(3 * INTERVAL)
            heartbeat = beat(site, theirs)
            await_heartbeat(cache, theirs, heartbeat, within=INTERVAL + SLACK)
            volume.remount(volume.refresher)
            await_heartbeat(cache, ours, heartbeat, within=2 * INTERVAL + SLACK)
            await_state(cache, CacheState.READY)
        watch.always_showed([ours, theirs])
    finally:
        shutil.rmtree(root / theirs[0] / group)


def test_a_hung_filesystem_stops_neither_the_heartbeat_nor_the_answers(
    volume: JuiceFS, site: Site, valkey: RunningServer
) -> None:
    runs = some_runs(20)
    write_all(site, runs)
    with site.refreshed(hang_timeout=1.5, lease_ttl=2.0) as cache, Watch(site) as watch:
        time.sleep(INTERVAL)
        volume.freeze()
        try:
            # First it is only late, by the reader's own judgement.
            seconds_until(lambda: "hangs" in (cache.freshness().reason or ""), within=10)
            assert cache.freshness().state is CacheState.DEGRADED
            completed_at = cache.freshness().completed_at
            _assert_beats_or_gave_up(cache, valkey, site.namespace)
            assert all(shows(cache, names) for names in runs)
            assert cache.freshness().completed_at == completed_at
        finally:
            volume.thaw()
        await_heartbeat(cache, runs[0], beat(site, runs[0]), within=2 * INTERVAL + SLACK)
        await_state(cache, CacheState.READY)
        await_heartbeat(cache, runs[1], beat(site, runs[1]), within=INTERVAL + SLACK)
    watch.always_showed(runs)


def _assert_beats_or_gave_up(cache: JobCache, server: RunningServer, namespace: str) -> None:
    """The refresher shows that it lives, or has left the lease to one that can scan."""
    before = cache.meta().get("beat_at")
    time.sleep(1.0)
    with server.client() as client:
        gave_up = not client.exists(Keys(namespace).lease)
    assert gave_up or cache.meta().get("beat_at") != before


def test_a_refresher_stops_in_time_while_the_filesystem_hangs(volume: JuiceFS, site: Site) -> None:
    runs = some_runs(5)
    write_all(site, runs)
    try:
        with site.refreshed(hang_timeout=30.0) as cache:
            time.sleep(INTERVAL)
            volume.freeze()
            time.sleep(ATTRIBUTES_LAST + 2 * INTERVAL)
        # Its end was timed. What it published stays.
        with JobCache(site.url, namespace=site.namespace) as cache:
            assert all(shows(cache, names) for names in runs)
    finally:
        volume.thaw()


def test_a_short_hang_is_no_fault(volume: JuiceFS, site: Site) -> None:
    runs = some_runs(20)
    write_all(site, runs)
    with site.refreshed(hang_timeout=10.0) as cache, Watch(site) as watch:
        volume.freeze()
        time.sleep(2.5)
        volume.thaw()
        await_heartbeat(cache, runs[0], beat(site, runs[0]), within=INTERVAL + SLACK)
        await_state(cache, CacheState.READY)
    watch.always_showed(runs)
    # It was late, which readers see by themselves; nobody called it hung.
    reasons = {sample.freshness.reason for sample in watch.samples} - {None}
    assert not [reason for reason in reasons if not str(reason).startswith("the last scan")]


def test_a_process_ends_in_time_while_the_filesystem_hangs(volume: JuiceFS, site: Site) -> None:
    write_all(site, some_runs(5))
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(site.refresher), site.url, site.namespace],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        volume.freeze()
        time.sleep(ATTRIBUTES_LAST + 2 * INTERVAL)
        process.stdin.close()
        # The kernel keeps a process, even a killed one, until FUSE has answered each of its threads. All that the
        # process itself can do is to exit: then its first thread is a zombie.
        seconds_until(lambda: _is_zombie(process.pid), within=CLOSES_WITHIN)
    finally:
        volume.thaw()
    assert process.wait(CLOSES_WITHIN) == 0
    process.stdout.close()


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"


_PROGRAM = """
import sys
from jobcache_refresher import Refresher
path, url, namespace = sys.argv[1:]
with Refresher(path, poll_interval=0.5, url=url, namespace=namespace):
    print("ready", flush=True)
    sys.stdin.read()
"""
