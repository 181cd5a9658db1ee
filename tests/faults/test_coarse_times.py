"""A filesystem that keeps whole seconds: what changes twice within one is told by no time, also not after a restart."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from jobcache import JobStatus
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.tree import Fingerprint
from tests.harness import Rig
from tests.servers import RunningServer
from tests.tools import require
from tests.trees import Names, write_run

VICTIM: Names = ("p", "g", "n", "r1")
PATH = b"p/g/n/r1"
SIZE = 8 << 20
"""Bytes of the image."""


@pytest.fixture
def seconds(tmp_path: Path) -> Iterator[Path]:
    """A status directory on ext3 with inodes of 128 bytes, which have no room for more than whole seconds.

    Skips where no image can be mounted, and fails there in CI.
    """
    image, root = tmp_path / "image", tmp_path / "status"
    root.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    make = [require("mkfs.ext3"), "-q", "-F", "-I", "128", str(image)]
    subprocess.run(make, check=True, capture_output=True)
    mount = [require("mount"), "-o", "loop", str(image), str(root)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode != 0:
        reason = f"an image cannot be mounted here: {mounted.stderr.strip()}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield root
    finally:
        subprocess.run([require("umount"), "-l", str(root)], check=True)


def put(root: Path, status: str) -> Fingerprint:
    """Write the run in place, always with the same size; returns the fingerprint."""
    write_run(root, VICTIM, status=status.ljust(9), last_heartbeat=None, start_time=None)
    return Fingerprint.of((root.joinpath(*VICTIM) / "metadata.json").stat())


def ticks() -> Iterator[None]:
    """Some attempts, each at the beginning of a second: a slow machine may not be done within the first."""
    for _ in range(5):
        time.sleep(1.01 - time.time() % 1)
        yield
    pytest.fail("this machine is too slow to write twice within a second")


def test_a_change_within_the_tick_is_read_after_a_restart(
    valkey: RunningServer, seconds: Path, namespace: str
) -> None:
    write_run(seconds, ("p", "g", "n", "other"))
    put(seconds, "failed")
    with Rig(valkey.url, seconds, namespace) as rig:
        rig.settle()
        for _ in ticks():
            first = put(seconds, "preempted")
            rig.refresh(Scope.HINTS, hints=[PATH])
            if put(seconds, "completed") == first:
                break
        job = rig.cache.get_job(*VICTIM)
        assert job is not None
        assert job.status is JobStatus.PREEMPTED
    time.sleep(2)
    with Rig(valkey.url, seconds, namespace) as rig:
        rig.refresh()
        job = rig.cache.get_job(*VICTIM)
        assert job is not None
        assert job.status is JobStatus.COMPLETED


def test_a_run_that_comes_within_the_tick_of_a_listing_is_found(
    valkey: RunningServer, seconds: Path, namespace: str
) -> None:
    put(seconds, "failed")
    name = seconds.joinpath(*VICTIM).parent
    with Rig(valkey.url, seconds, namespace) as rig:
        rig.settle()
        for _ in ticks():
            new = uuid4().hex
            write_run(seconds, ("p", "g", "n", f"{new} first"))
            rig.refresh()
            before = name.stat().st_mtime_ns
            write_run(seconds, ("p", "g", "n", f"{new} second"))
            if name.stat().st_mtime_ns == before:
                break
        for _ in range(3):
            rig.refresh(Scope.POLL)
        assert rig.cache.get_job("p", "g", "n", f"{new} second") is not None
