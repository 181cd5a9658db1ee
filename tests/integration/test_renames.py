"""Projects, groups, names and runs that are renamed, copied or lost, with a real refresher in both modes."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobcache import CacheState, JobCache
from jobcache_refresher import Refresher
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.triggers.mounts import events_are_complete, fs_type_of
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import Names, delete_run, write_run

POLL = 0.2
JOBS, OTHERS = 90, 60
"""Runs in the project that is renamed, 60 % of all, and in another."""

MODES = ("polling", "watchdog")


def some_run(number: int, project: str = "old") -> Names:
    return (project, f"g{number % 2}", f"n{number % 5}", f"r{number}")


@pytest.fixture(autouse=True)
def _tree(status_dir: Path) -> None:
    for number in range(JOBS):
        status = "running" if number % 3 == 0 else "completed"
        write_run(status_dir, some_run(number), status=status, config={"n": number})
    for number in range(OTHERS):
        write_run(status_dir, some_run(number, "other"), status="completed")


@contextmanager
def running(
    server: RunningServer, status_dir: Path, namespace: str, mode: str = "polling"
) -> Iterator[JobCache]:
    if mode == "watchdog" and not events_are_complete(fs_type_of(str(status_dir))):
        pytest.skip(f"{status_dir} is on {fs_type_of(str(status_dir))}")
    with (
        Refresher(
            status_dir,
            mode,
            POLL,
            url=server.url,
            namespace=namespace,
            relist_interval=3 * POLL,
            settle=0.1,
        ),
        JobCache(server.url, namespace=namespace, deadline=10) as cache,
    ):
        yield cache


def wait_until(holds: Callable[[], bool], but: Callable[[], object] = lambda: None) -> None:
    ends = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < ends, but()
        time.sleep(0.02)


def wait_for_scans(cache: JobCache, count: int = 4) -> None:
    """Let so many scans complete."""
    for _ in range(count):
        cache.refresh(wait=True, timeout=20)


def projects(cache: JobCache) -> dict[str, int]:
    found: dict[str, int] = {}
    for job in cache.list_all_jobs(limit=None):
        found[job.project] = found.get(job.project, 0) + 1
    return found


@pytest.mark.parametrize("mode", MODES)
def test_a_project_with_most_jobs_is_renamed_nothing_is_held(
    valkey: RunningServer, status_dir: Path, namespace: str, mode: str
) -> None:
    with running(valkey, status_dir, namespace, mode) as cache:
        (status_dir / "old").rename(status_dir / "new")
        states = set()

        def has_moved() -> bool:
            found, meta = projects(cache), cache.meta()
            states.add((meta["state"], meta["held"]))
            return found == {"new": JOBS, "other": OTHERS}

        wait_until(has_moved, lambda: (projects(cache), cache.meta()))
        assert states == {("ready", "0")}
        delete_run(status_dir, some_run(0, "other"))
        wait_until(lambda: projects(cache) == {"new": JOBS, "other": OTHERS - 1})
        assert cache.freshness().state is CacheState.READY


@pytest.mark.parametrize("mode", MODES)
def test_a_rename_is_taken_back_and_made_again_nothing_is_held(
    valkey: RunningServer, status_dir: Path, namespace: str, mode: str
) -> None:
    with running(valkey, status_dir, namespace, mode) as cache:
        for source, target in (("old", "new"), ("new", "old"), ("old", "newer")):
            (status_dir / source).rename(status_dir / target)
            wait_until(lambda target=target: projects(cache).get(target) == JOBS)  # type: ignore[misc]
        wait_until(lambda: projects(cache) == {"newer": JOBS, "other": OTHERS})
        assert cache.meta()["held"] == "0"


@pytest.mark.parametrize("mode", MODES)
def test_a_project_is_lost_others_go_on(
    valkey: RunningServer, status_dir: Path, namespace: str, mode: str
) -> None:
    with running(valkey, status_dir, namespace, mode) as cache:
        (status_dir / "old").rename(status_dir.parent / "away")
        wait_until(lambda: cache.meta()["held"] == str(JOBS), cache.meta)
        reason = cache.freshness().reason or ""
        assert f"{JOBS} of {JOBS + OTHERS} jobs vanished at once" in reason
        assert "below 'old', since 20" in reason
        delete_run(status_dir, some_run(0, "other"))
        wait_until(lambda: projects(cache) == {"old": JOBS, "other": OTHERS - 1})
        assert cache.meta()["held"] == str(JOBS)
        (status_dir.parent / "away").rename(status_dir / "old")
        wait_until(lambda: cache.freshness().state is CacheState.READY)
        assert projects(cache) == {"old": JOBS, "other": OTHERS - 1}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["-a", "-al"])
def test_a_project_was_copied_and_the_original_is_lost_held(
    valkey: RunningServer, status_dir: Path, namespace: str, mode: str, how: str
) -> None:
    with running(valkey, status_dir, namespace, mode) as cache:
        subprocess.run(["cp", how, status_dir / "old", status_dir / "copy"], check=True)
        wait_until(lambda: projects(cache) == {"old": JOBS, "copy": JOBS, "other": OTHERS})
        (status_dir / "old").rename(status_dir.parent / "away")
        wait_until(lambda: cache.meta()["held"] == str(JOBS), cache.meta)
        wait_for_scans(cache)
        assert projects(cache) == {"old": JOBS, "copy": JOBS, "other": OTHERS}


def test_a_mass_deletion_in_waves_is_held(
    valkey: RunningServer, status_dir: Path, namespace: str
) -> None:
    with running(valkey, status_dir, namespace) as cache:
        for number in range(JOBS):
            delete_run(status_dir, some_run(number))
            if number % 9 == 0:
                wait_for_scans(cache, 3)
        wait_until(lambda: cache.freshness().state is CacheState.DEGRADED)
        wait_for_scans(cache)
        # 50 of 150 may go in any case.
        assert cache.counts().total_jobs >= JOBS + OTHERS - 50


DEPTHS = {
    "a project": ("old", "new"),
    "a group": ("old/g0", "other/moved"),
    "a name": ("old/g0/n0", "other/g0/moved"),
    "a name to a group of its own": ("old/g0/n0", "new/g/n"),
    "a run": ("old/g0/n0/r0", "other/g0/n0/moved"),
}


@pytest.fixture
def rig(valkey: RunningServer, status_dir: Path, namespace: str) -> Iterator[Rig]:
    """One that holds the smallest share."""
    with Rig(valkey.url, status_dir, namespace, hold_minimum=0, hold_fraction=0.001) as made:
        made.refresh()
        yield made


def counts(rig: Rig) -> tuple[int, str]:
    return rig.cache.counts().total_jobs, rig.cache.meta()["held"]


@pytest.mark.parametrize("what", DEPTHS)
def test_whatever_is_renamed_shows_at_once_and_leaves_a_poll_later(rig: Rig, what: str) -> None:
    source, target = (rig.status_dir / path for path in DEPTHS[what])
    jobs = len(list(source.rglob("metadata.json")))
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    rig.refresh()
    assert counts(rig) == (JOBS + OTHERS + jobs, "0")
    rig.refresh()
    assert counts(rig) == (JOBS + OTHERS, "0")


def test_a_run_is_begun_anew_while_its_project_is_renamed_it_is_another(rig: Rig) -> None:
    (rig.status_dir / "old").rename(rig.status_dir / "new")
    for number in range(0, JOBS, 3):
        write_run(rig.status_dir, some_run(number, "new"), status="failed", config={"n": number})
    rig.settle()
    # Start times differ.
    assert counts(rig) == (JOBS + OTHERS + JOBS // 3, str(JOBS // 3))


def test_a_run_beats_between_rename_and_scan_it_has_moved(rig: Rig) -> None:
    (rig.status_dir / "old").rename(rig.status_dir / "new")
    for file in (rig.status_dir / "new").rglob("metadata.json"):
        file.write_text(file.read_text() + " ")
    rig.settle()
    assert counts(rig) == (JOBS + OTHERS, "0")


def test_a_project_is_moved_between_filesystems_nothing_is_held(rig: Rig) -> None:
    """As ``mv`` does: copied with its times, then removed."""
    shutil.copytree(rig.status_dir / "old", rig.status_dir / "new")
    shutil.rmtree(rig.status_dir / "old")
    rig.settle()
    assert counts(rig) == (JOBS + OTHERS, "0")


def test_a_copy_has_new_times_and_the_original_is_removed_held(rig: Rig) -> None:
    shutil.copytree(rig.status_dir / "old", rig.status_dir / "new", copy_function=shutil.copyfile)
    for file in (rig.status_dir / "new").rglob("metadata.json"):
        os.utime(file, (1.0, 1.0))
    shutil.rmtree(rig.status_dir / "old")
    rig.settle()
    assert counts(rig) == (JOBS * 2 + OTHERS, str(JOBS))


def test_a_refresher_was_down_during_a_rename_nothing_is_held(rig: Rig) -> None:
    rig.__exit__()
    (rig.status_dir / "old").rename(rig.status_dir / "new")
    with Rig(rig.url, rig.status_dir, rig.namespace, hold_minimum=0, hold_fraction=0.001) as again:
        again.settle()
        assert counts(again) == (JOBS + OTHERS, "0")


def test_a_dashboard_removes_run_after_run_and_says_so_late(
    valkey: RunningServer, status_dir: Path, namespace: str
) -> None:
    with Rig(valkey.url, status_dir, namespace, hold_minimum=2, hold_fraction=0.001) as rig:
        rig.refresh()
        for number in range(10):
            delete_run(status_dir, some_run(number))
            rig.settle()
            assert counts(rig) == (JOBS + OTHERS - number - 1, "0")
            rig.cache.delete_job(*some_run(number))
            rig.refresh(Scope.POLL)


def test_a_new_leader_holds_on(rig: Rig) -> None:
    for number in range(5):
        delete_run(rig.status_dir, some_run(number))
    rig.settle()
    assert counts(rig) == (JOBS + OTHERS, "5")
    rig.__exit__()
    with Rig(rig.url, rig.status_dir, rig.namespace) as again:
        again.settle()
        assert counts(again) == (JOBS + OTHERS, "5")
        again.refresh(release=True)
        assert counts(again) == (JOBS + OTHERS - 5, "0")
