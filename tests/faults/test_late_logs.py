"""Logs that come, grow or are replaced after the last write of metadata.json."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.tree import Fingerprint
from tests.faults.faulty import FaultyTree
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import Names, write_run

ENDED: Names = ("p", "g", "n", "ended")
URL = "https://wandb.ai/lab/p/runs/1"
LINE = f"WANDB | project=p url={URL}\n"


class CountingTree(FaultyTree):
    """Counts what is opened and looked at."""

    opened = 0
    looked = 0

    def _open(self, path: bytes, name: bytes, held: int | None) -> int:
        self.opened += 1
        return super()._open(path, name, held)

    def fingerprint(self, path: bytes, name: bytes, held: int | None = None) -> Fingerprint:
        self.looked += 1
        return super().fingerprint(path, name, held)


@pytest.fixture
def tree(status_dir: Path) -> CountingTree:
    return CountingTree(str(status_dir))


@pytest.fixture
def rig(
    valkey: RunningServer, status_dir: Path, namespace: str, tree: CountingTree
) -> Iterator[Rig]:
    with Rig(valkey.url, status_dir, namespace, tree=tree, log_scan_bytes=8192) as rig:
        yield rig


def rest(rig: Rig, status: str = "completed", log: str | None = None) -> Path:
    """A run that is read, and settled, and not live."""
    old = "2026-01-01T00:00:00"
    run = write_run(rig.status_dir, ENDED, log=log, status=status, last_heartbeat=old)
    rig.settle()
    rig.refresher.time.advance(10)
    rig.settle()
    return run


def found(rig: Rig) -> tuple[str | None, str | None]:
    job = rig.cache.get_job(*ENDED)
    assert job is not None
    return job.log_path, job.wandb_url


def polls(rig: Rig, count: int, apart: float) -> tuple[str | None, str | None]:
    """What is found after some polls."""
    for _ in range(count):
        rig.refresher.time.advance(apart)
        rig.refresh(Scope.POLL)
    return found(rig)


@pytest.mark.parametrize("status", ["completed", "failed", "running", "unknown"])
@pytest.mark.parametrize("before", [None, "", "a line\n" * 50, "a line " * 50])
def test_an_address_that_comes_late_is_found(rig: Rig, status: str, before: str | None) -> None:
    run = rest(rig, status, before)
    assert found(rig)[1] is None
    with (run / "output.log").open("a") as file:
        file.write("\n" + LINE)
    resync = rig.refresher.settings.resync_interval
    assert polls(rig, 1, resync) == (str(run / "output.log"), URL)


@pytest.mark.parametrize("status", ["completed", "running"])
def test_within_a_poll_or_two_of_the_last_write(rig: Rig, status: str) -> None:
    run = write_run(rig.status_dir, ENDED, status=status)
    rig.settle()
    (run / "output.log").write_text(LINE)
    poll = rig.refresher.settings.poll_interval
    assert polls(rig, 2, poll) == (str(run / "output.log"), URL)


def rotate(log: Path) -> None:
    log.rename(log.with_name("output.log.1"))
    log.write_text(LINE + "step\n" * 1000)


def copy_and_truncate(log: Path) -> None:
    log.write_text("step\n" * 300 + LINE + "step\n" * 1000)


def cut(log: Path) -> None:
    log.write_text(LINE)


def replace(log: Path) -> None:
    log.with_name("new").write_text(LINE)
    os.replace(log.with_name("new"), log)


@pytest.mark.parametrize("change", [rotate, copy_and_truncate, cut, replace])
@pytest.mark.parametrize("before", ["step\n" * 500, LINE.replace("/1", "/0") + "step\n" * 500])
@pytest.mark.parametrize("restarted", [False, True])
def test_another_log_is_searched_from_its_head(
    rig: Rig, change: Callable[[Path], None], before: str, restarted: bool
) -> None:
    run = rest(rig, log=before)
    if restarted:
        rig.refresher.close()
        change(run / "output.log")
        with Rig(rig.url, rig.status_dir, rig.namespace) as again:
            again.refresh()
            assert found(again) == (str(run / "output.log"), URL)
    else:
        change(run / "output.log")
        rig.refresh()
        assert found(rig) == (str(run / "output.log"), URL)


def test_a_log_that_came_while_nobody_looked_is_found(rig: Rig) -> None:
    run = rest(rig)
    (run / "output.log").write_text(LINE)
    rig.refresher.close()
    with Rig(rig.url, rig.status_dir, rig.namespace) as again:
        again.refresh()
        assert found(again) == (str(run / "output.log"), URL)


def test_a_log_that_is_gone_has_no_path_and_keeps_its_address(rig: Rig) -> None:
    run = rest(rig, log=LINE)
    (run / "output.log").unlink()
    rig.refresh()
    assert found(rig) == (None, URL)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("log", ["", "step\n", None])
def test_a_directory_that_was_made_anew_has_no_address_of_before(
    rig: Rig, log: str | None, restarted: bool
) -> None:
    run = rest(rig, log=LINE)
    if restarted:
        rig.refresher.close()
    run.rename(run.with_name("away"))
    write_run(rig.status_dir, ENDED, log=log)
    shutil.rmtree(run.with_name("away"))
    expected = None if log is None else str(run / "output.log")
    if restarted:
        with Rig(rig.url, rig.status_dir, rig.namespace) as again:
            again.refresh()
            assert found(again) == (expected, None)
    else:
        rig.settle()
        assert found(rig) == (expected, None)


def test_a_log_that_is_a_link_is_told(rig: Rig) -> None:
    run = write_run(rig.status_dir, ENDED)
    (run / "output.log").symlink_to("slurm.out")
    rig.settle()
    assert found(rig) == (None, None)
    problems = dict(rig.refresher.scanner.snapshot.problems())
    assert problems == {
        "/".join(ENDED).encode(): "output.log is a symbolic link, which is not followed"
    }
    (run / "output.log").unlink()
    rig.refresher.time.advance(rig.refresher.settings.resync_interval)
    rig.settle()
    assert not dict(rig.refresher.scanner.snapshot.problems())


def test_a_log_that_grows_writes_nothing_once_the_address_is_found(rig: Rig) -> None:
    run = write_run(rig.status_dir, ENDED, log=LINE)
    rig.settle()
    before = rig.refresher.records["/".join(ENDED).encode()].revision
    for _ in range(3):
        with (run / "output.log").open("a") as file:
            file.write("step\n")
        rig.refresher.time.advance(rig.refresher.settings.poll_interval)
        rig.refresh(Scope.POLL)
    assert rig.refresher.records["/".join(ENDED).encode()].revision == before


@pytest.mark.parametrize(
    "log", [None, "", "a line\n", "without an end", "x" * 20_000, "a line\n" * 4000, LINE]
)
def test_a_run_at_rest_costs_one_more_look_at_most(
    rig: Rig, tree: CountingTree, log: str | None
) -> None:
    rest(rig, log=log)
    rig.refresh()
    tree.opened = tree.looked = 0
    for _ in range(10):
        rig.refresh()
    assert tree.opened == 0
    assert tree.looked <= 20


@pytest.mark.parametrize(("descriptors", "looks"), [(4096, 0), (0, 10)])
def test_a_live_run_whose_address_is_found_costs_nothing_more(
    valkey: RunningServer,
    status_dir: Path,
    namespace: str,
    tree: CountingTree,
    descriptors: int,
    looks: int,
) -> None:
    write_run(status_dir, ENDED, log=LINE)
    with Rig(valkey.url, status_dir, namespace, tree=tree, max_descriptors=descriptors) as rig:
        rig.settle()
        rig.refresher.time.advance(10)
        rig.settle()
        tree.opened = tree.looked = 0
        for _ in range(10):
            rig.refresh()
    assert (tree.opened, tree.looked) == (0, looks)
