"""Logs that come, grow or are replaced after the last write of metadata.json."""

from __future__ import annotations

import os
from collections.abc import Iterator
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


@pytest.mark.parametrize("status", ["completed", "failed", "running", "unknown"])
@pytest.mark.parametrize("before", [None, "", "a line\n" * 50, "a line " * 50])
def test_an_address_that_comes_late_is_found(rig: Rig, status: str, before: str | None) -> None:
    run = rest(rig, status, before)
    assert found(rig)[1] is None
    with (run / "output.log").open("a") as file:
        file.write("\n" + LINE)
    rig.refresher.time.advance(rig.refresher.settings.resync_interval)
    rig.refresh(Scope.POLL)
    assert found(rig) == (str(run / "output.log"), URL)


def test_within_a_poll_or_two_after_the_end(rig: Rig) -> None:
    run = rest(rig)
    (run / "output.log").write_text(LINE)
    for _ in range(2):
        rig.refresher.time.advance(rig.refresher.settings.poll_interval)
        rig.refresh(Scope.POLL)
    assert found(rig) == (str(run / "output.log"), URL)


def test_also_after_a_restart(rig: Rig) -> None:
    run = rest(rig)
    (run / "output.log").write_text(LINE)
    rig.refresher.close()
    with Rig(rig.url, rig.status_dir, rig.namespace) as again:
        again.refresh()
        assert found(again) == (str(run / "output.log"), URL)


def test_a_log_that_was_cut_or_replaced_is_searched_anew(rig: Rig) -> None:
    run = rest(rig, log="a line\n" * 500)
    (run / "new").write_text(LINE)
    os.replace(run / "new", run / "output.log")
    rig.refresh()
    assert found(rig)[1] == URL


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
    if log == LINE:
        assert tree.looked == 10, "an address that is known is not looked for"


@pytest.mark.parametrize(("descriptors", "looks"), [(4096, 0), (0, 10)])
def test_a_live_run_costs_nothing_more(
    valkey: RunningServer,
    status_dir: Path,
    namespace: str,
    tree: CountingTree,
    descriptors: int,
    looks: int,
) -> None:
    write_run(status_dir, ENDED)
    with Rig(valkey.url, status_dir, namespace, tree=tree, max_descriptors=descriptors) as rig:
        rig.settle()
        rig.refresher.time.advance(10)
        rig.settle()
        tree.opened = tree.looked = 0
        for _ in range(10):
            rig.refresh()
    assert (tree.opened, tree.looked) == (0, looks)
