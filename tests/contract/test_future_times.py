"""Times that lie in the future, and clocks that differ."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from jobcache_refresher.clock import Clock
from jobcache_refresher.scan.scanner import Readings, Scanner
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.tree import Tree
from jobcache_refresher.settings import Settings
from tests.harness import Rig
from tests.trees import Names, write_run

HOUR = 3600.0
YEAR = 365 * 24 * HOUR
STALE_AFTER = 300.0

RUN: Names = ("p", "g", "n", "r")
OTHER: Names = ("p", "g", "n", "other")


def write(root: Path, names: Names, *, beat: float, start: float, mtime: float) -> None:
    """A running job with 8 chips; all times are epoch seconds."""
    directory = write_run(root, names, status="running", start_time=start, last_heartbeat=beat)
    os.utime(directory / "metadata.json", (mtime, mtime))


@pytest.mark.parametrize(
    ("written", "fresh"),
    [(-86400.0, False), (-10.0, True)],
    ids=["nothing was written for a day", "written a moment ago"],
)
def test_a_heartbeat_years_ahead_is_as_fresh_as_its_file(
    valkey_rig: Rig, written: float, fresh: bool
) -> None:
    now = time.time()
    write(valkey_rig.status_dir, RUN, beat=now + 5 * YEAR, start=now - HOUR, mtime=now + written)
    write(valkey_rig.status_dir, OTHER, beat=now - 5, start=now - 2 * HOUR, mtime=now - 5)
    valkey_rig.refresh()
    cache = valkey_rig.cache
    counts = cache.counts()
    assert (counts.running, counts.stale) == ((2, 0) if fresh else (1, 1))
    assert counts.active_chips == 8 * counts.running
    running = {job.run_id for job in cache.get_running_jobs()}
    assert running == ({"other", "r"} if fresh else {"other"})
    job = cache.get_job(*RUN)
    assert job is not None
    assert (job.is_stale, job.last_heartbeat) == (not fresh, str(now + 5 * YEAR))
    (problem,) = valkey_rig.refresher.scanner.snapshot.problems()
    assert problem == (b"p/g/n/r", "last_heartbeat lies 43800 h in the future")


def test_a_start_years_ahead_does_not_stand_first_for_years(valkey_rig: Rig) -> None:
    now = time.time()
    write(valkey_rig.status_dir, RUN, beat=now, start=now + 5 * YEAR, mtime=now - 3 * 24 * HOUR)
    write(valkey_rig.status_dir, OTHER, beat=now, start=now - HOUR, mtime=now)
    valkey_rig.refresh()
    cache = valkey_rig.cache
    assert [job.run_id for job in cache.list_all_jobs()] == ["other", "r"]
    assert [job.run_id for job in cache.get_recent_jobs(24)] == ["other"]


@pytest.mark.parametrize(
    ("refresher", "filesystem", "producer", "remarked"),
    [
        # Each is ahead of the server's clock by so many seconds.
        (0.0, 0.0, 0.0, False),
        (0.0, 0.0, 59.0, False),
        (0.0, 0.0, -59.0, False),
        (0.0, HOUR, 0.0, False),
        (0.0, -HOUR, 0.0, False),
        (HOUR, 0.0, 0.0, False),
        (-HOUR, 0.0, 0.0, False),
        (-HOUR, HOUR, 0.0, False),
        (HOUR, -HOUR, 0.0, False),
        (-YEAR, 0.0, 0.0, False),
        (0.0, 0.0, HOUR, True),
        (0.0, HOUR, HOUR, True),
        (-HOUR, 0.0, HOUR, True),
        (-HOUR, HOUR, HOUR, True),
        # The refresher's clock agrees with the producer's: the server's may be the one that is behind.
        (HOUR, HOUR, HOUR, False),
    ],
)
def test_a_run_that_is_alive_is_fresh_whoevers_clock_is_wrong(
    status_dir: Path, refresher: float, filesystem: float, producer: float, remarked: bool
) -> None:
    server = time.time()
    write(
        status_dir,
        RUN,
        beat=server + producer,
        start=server - HOUR,
        mtime=server + filesystem,
    )
    scanner = Scanner(
        Tree(str(status_dir)),
        Settings.create(status_dir=str(status_dir), scan_threads=1),
        Clock(time=lambda: time.time() + refresher),
    )
    read: Readings = {}
    scanner.scan(Scope.RELIST, fresh_since=server - STALE_AFTER, now=server, give=read.update)
    ((path, fields),) = read.items()
    assert float(fields[b"heartbeat_at"]) >= server - STALE_AFTER
    assert (path in dict(scanner.snapshot.problems())) is remarked
    scanner.close()


def test_a_run_that_died_with_its_clock_ahead_is_stale_soon_after(status_dir: Path) -> None:
    """Also if the clock of the filesystem is ahead in the same way."""
    server = time.time()
    write(status_dir, RUN, beat=server + HOUR, start=server, mtime=server + HOUR)
    scanner = Scanner(
        Tree(str(status_dir)),
        Settings.create(status_dir=str(status_dir), scan_threads=1),
        Clock(),
    )
    read: Readings = {}
    scanner.scan(Scope.RELIST, fresh_since=0.0, now=server, give=read.update)
    (fields,) = read.values()
    assert server <= float(fields[b"heartbeat_at"]) <= server + 10
    scanner.close()
