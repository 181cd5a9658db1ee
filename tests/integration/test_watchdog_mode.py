"""A refresher in watchdog mode: how soon a change shows, and what happens where events are not to be had."""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobcache import JobCache
from jobcache_refresher import Refresher
from jobcache_refresher.scan.scanner import Scan, Scanner
from jobcache_refresher.scan.tree import Directory, Tree
from jobcache_refresher.triggers import hints as hints_module
from jobcache_refresher.triggers import mounts
from jobcache_refresher.triggers.mounts import events_are_complete, fs_type_of
from tests.servers import RunningServer
from tests.trees import Names, delete_run, metadata, write_raw, write_run
from tests.watching import exchange

HOUR = 3600.0
"""So long between polls that none falls into a test: what shows, events have shown."""

WRITER = """
import json, os, sys
root, writer, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for run in range(runs):
    directory = f"{root}/p{writer}/g{run % 10}/n{run // 10}/r{run}"
    os.makedirs(directory)
    with open(directory + "/metadata.json", "w") as file:
        json.dump({"start_time": "2026-01-01T00:00:00", "status": "completed", "config": {"k": run}}, file)
"""


@pytest.fixture(autouse=True)
def _local(status_dir: Path) -> None:
    if not events_are_complete(fs_type_of(str(status_dir))):
        pytest.skip(f"{status_dir} is on {fs_type_of(str(status_dir))}")


@contextmanager
def running(
    server: RunningServer, status_dir: Path, namespace: str, **settings: Any
) -> Iterator[JobCache]:
    """A client beside a refresher that hardly ever polls."""
    slow = {"poll_interval": HOUR, "relist_interval": HOUR, "resync_interval": HOUR, **settings}
    with (
        Refresher(status_dir, url=server.url, namespace=namespace, **slow),
        JobCache(server.url, namespace=namespace, deadline=10) as cache,
    ):
        yield cache


def wait_until(holds: Callable[[], bool], timeout: float = 10.0) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < timeout, "it does not come"
        time.sleep(0.001)
    return time.monotonic() - began


def meta(server: RunningServer, namespace: str, field: str) -> str:
    with server.client() as client:
        value = client.hget(f"jobcache:{{{namespace}}}:meta", field)
    return value.decode() if isinstance(value, bytes) else ""


def test_a_rewrite_shows_within_100_ms(
    valkey: RunningServer, status_dir: Path, namespace: str
) -> None:
    runs: list[Names] = [("p", f"g{n % 5}", f"n{n % 20}", f"r{n}") for n in range(200)]
    for run in runs:
        write_run(status_dir, run, slurm_job_id="before")
    delays = []
    with running(valkey, status_dir, namespace, mode="watchdog") as cache:
        for n in range(100):
            run, mark = runs[n * 7 % len(runs)], f"mark-{n}"
            write_run(status_dir, run, slurm_job_id=mark)

            def shows(run: Names = run, mark: str = mark) -> bool:
                job = cache.get_job(*run)
                return job is not None and job.slurm_job_id == mark

            delays.append(wait_until(shows))
    delays.sort()
    print(f"median {delays[50] * 1e3:.1f} ms, p99 {delays[98] * 1e3:.1f} ms")
    assert delays[98] < 0.1


def test_new_ended_moved_and_deleted_runs_show(
    valkey: RunningServer, status_dir: Path, namespace: str
) -> None:
    write_run(status_dir, ("p", "g", "n", "there"))
    with running(valkey, status_dir, namespace, mode="auto") as cache:
        assert meta(valkey, namespace, "mode") == "watchdog"

        def names() -> set[Names]:
            return {
                (job.project, job.group, job.name, job.run_id)
                for job in cache.list_all_jobs(limit=None)
            }

        new: Names = ("new", "g", "n", "r")
        write_run(status_dir, new)
        assert wait_until(lambda: new in names()) < 0.5
        write_run(status_dir, new, status="completed")
        assert wait_until(lambda: cache.get_job(*new).status == "completed") < 0.5  # type: ignore[union-attr]
        (status_dir / "new").rename(status_dir / "renamed")
        moved: Names = ("renamed", "g", "n", "r")
        assert wait_until(lambda: names() == {("p", "g", "n", "there"), moved}) < 1
        (status_dir / "renamed/g/n/r/metadata.json").unlink()
        assert wait_until(lambda: names() == {("p", "g", "n", "there")}) < 1
        delete_run(status_dir, ("p", "g", "n", "there"))
        write_run(status_dir, ("p", "g", "n", "other"))
        assert wait_until(lambda: names() == {("p", "g", "n", "other")}) < 1


def test_two_projects_that_are_exchanged_show_in_each_others_place(
    valkey: RunningServer, status_dir: Path, namespace: str
) -> None:
    write_run(status_dir, ("one", "g", "n", "both"), slurm_job_id="1")
    write_run(status_dir, ("one", "g", "n", "first"), slurm_job_id="1")
    write_run(status_dir, ("other", "g", "n", "both"), slurm_job_id="2")
    with running(valkey, status_dir, namespace, mode="watchdog") as cache:
        exchange(status_dir / "one", status_dir / "other")

        def found() -> set[tuple[str, str, str | None]]:
            return {(job.project, job.run_id, job.slurm_job_id) for job in cache.list_all_jobs()}

        expected = {("one", "both", "2"), ("other", "both", "1"), ("other", "first", "1")}
        wait_until(lambda: found() == expected)


def test_writes_that_make_no_event_show_with_the_polls(
    valkey: RunningServer, status_dir: Path, namespace: str, tmp_path: Path
) -> None:
    def text(mark: str) -> bytes:
        return json.dumps(metadata(slurm_job_id=mark)).encode().ljust(1000)

    def file_of(name: str) -> Path:
        return status_dir / "p" / "g" / "n" / name / "metadata.json"

    kinds = ("open", "map", "other name", "truncate")
    for name in kinds:
        write_raw(file_of(name).parent, text("before"))
    os.link(file_of("other name"), tmp_path / "other name")
    with ExitStack() as stack:
        kept, mapped, cut = (
            stack.enter_context(file_of(name).open("r+b", buffering=0))
            for name in ("open", "map", "truncate")
        )
        view = stack.enter_context(mmap.mmap(mapped.fileno(), 0))
        cut.write(text("after") + text("rest"))
        cache = stack.enter_context(
            running(valkey, status_dir, namespace, mode="watchdog", poll_interval=0.3)
        )
        kept.write(text("after"))
        view[:] = text("after")
        view.flush()
        (tmp_path / "other name").write_bytes(text("after"))
        os.truncate(file_of("truncate"), 1000)

        def latest() -> set[str | None]:
            return {job.slurm_job_id for job in cache.list_all_jobs()}

        wait_until(lambda: latest() == {"after"})
        assert cache.counts().total_jobs == len(kinds)
        assert meta(valkey, namespace, "mode") == "watchdog"


def test_a_mass_deletion_is_held_although_events_show_it_bit_by_bit(
    valkey: RunningServer, status_dir: Path, namespace: str
) -> None:
    for n in range(400):
        write_run(status_dir, ("p", "g", f"n{n % 20}", f"r{n}"))
    with running(valkey, status_dir, namespace, mode="watchdog") as cache:
        for n in range(0, 400, 2):
            delete_run(status_dir, ("p", "g", f"n{n % 20}", f"r{n}"))
            time.sleep(0.005)
        time.sleep(0.5)
        for _ in range(2):
            assert cache.counts().total_jobs >= 350
            cache.refresh(wait=True)
        assert cache.counts().total_jobs >= 350
        assert meta(valkey, namespace, "state") == "degraded"


def test_what_stays_unconfirmed_is_not_looked_for_without_end(
    valkey: RunningServer, status_dir: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = 0
    scan, list_directory = Scanner.scan, Tree.list_directory

    def counted(*arguments: Any, **keywords: Any) -> Scan:
        nonlocal scans
        scans += 1
        return scan(*arguments, **keywords)

    def failing(tree: Tree, path: bytes, **keywords: Any) -> Directory:
        listing = list_directory(tree, path, **keywords)
        if path == b"p/g/n" and b"gone" not in listing.subdirectories:
            if failing_from_now:
                raise OSError(errno.EIO, "Input/output error")
            failing_from_now.append(True)
        return listing

    failing_from_now: list[bool] = []
    monkeypatch.setattr(Scanner, "scan", counted)
    monkeypatch.setattr(Tree, "list_directory", failing)
    write_run(status_dir, ("p", "g", "n", "stays"))
    write_run(status_dir, ("p", "g", "n", "gone"))
    with running(valkey, status_dir, namespace, mode="watchdog") as cache:
        delete_run(status_dir, ("p", "g", "n", "gone"))
        wait_until(lambda: bool(failing_from_now))
        time.sleep(0.5)
        before = scans
        time.sleep(0.5)
        assert scans == before
        assert cache.counts().total_jobs == 2


@pytest.mark.slow
def test_18000_runs_made_by_four_writers(
    valkey: RunningServer, status_dir: Path, namespace: str
) -> None:
    runs = 4500
    with running(valkey, status_dir, namespace, mode="watchdog") as cache:
        began = time.monotonic()
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, status_dir, str(n), str(runs)])
            for n in range(4)
        ]
        assert [writer.wait() for writer in writers] == [0] * 4
        wrote = time.monotonic() - began
        took = wait_until(lambda: cache.counts().total_jobs == 4 * runs, 60)
        print(f"written in {wrote:.1f} s, all shown {took:.1f} s later")
        jobs = cache.list_all_jobs(limit=None)
    assert {(job.project, job.run_id): job.config["k"] for job in jobs} == {
        (f"p{writer}", f"r{run}"): run for writer in range(4) for run in range(runs)
    }


def test_polls_and_says_why_where_events_are_not_complete(
    valkey: RunningServer, status_dir: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "LOCAL_TYPES", frozenset())
    with running(valkey, status_dir, namespace, mode="watchdog", poll_interval=0.1) as cache:
        assert meta(valkey, namespace, "mode") == "polling"
        assert meta(valkey, namespace, "mode_reason").startswith("inotify may miss writes on ")
        write_run(status_dir, ("p", "g", "n", "r"))
        wait_until(lambda: cache.get_job("p", "g", "n", "r") is not None)


def test_a_root_that_vanished_is_watched_again_when_it_is_back(
    valkey: RunningServer, status_dir: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints_module, "RETRY", 0.2)
    write_run(status_dir, ("p", "g", "n", "r"))
    with running(valkey, status_dir, namespace, mode="watchdog", poll_interval=0.1) as cache:
        status_dir.rename(status_dir.parent / "away")
        wait_until(lambda: meta(valkey, namespace, "state") == "degraded")
        assert cache.get_job("p", "g", "n", "r") is not None
        (status_dir.parent / "away").rename(status_dir)
        wait_until(lambda: meta(valkey, namespace, "mode") == "watchdog")
        wait_until(lambda: meta(valkey, namespace, "state") == "ready")
        write_run(status_dir, ("p", "g", "n", "later"))
        wait_until(lambda: cache.get_job("p", "g", "n", "later") is not None)
        shutil.rmtree(status_dir / "p/g/n/r")
        wait_until(lambda: cache.get_job("p", "g", "n", "r") is None)
