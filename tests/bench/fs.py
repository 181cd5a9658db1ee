"""`python -m tests.bench.fs`: what refreshing costs a real JuiceFS, for the in-process cache and for jobcache.

Operations a minute by the mount's own counters, in steady state, while jobs beat every 30 seconds from another mount of
the volume. Whether the bar is met is information: the exit code is 0 unless the run itself failed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jobcache import JobCache, JobCacheError
from jobcache_refresher import EmbeddedServer, Refresher
from jobcache_refresher.demo.runs import BEAT_SECONDS
from tests.bench.baseline import FULL_SCAN_INTERVAL, InProcessJobCache
from tests.bench.tree import MeasuredTree, prepare_tree
from tests.juicefs import JuiceFS, JuiceFSError, Mount, difference, running_juicefs

JOBS = (2_000, 10_000)
RUNNING = 0.02
"""Share of the jobs that run."""
LOG_BYTES = 4 << 10
"""Size of a log. Its head costs the baseline one look-up and one read in a full scan, whatever its size."""
WORKERS = 8
"""In-process workers that one refresher replaces. Each costs the same; one is measured."""
BAR = 150.0
"""How many times fewer metadata operations a minute are wanted."""
POLL_INTERVAL = 10.0
"""Seconds between two scans, the default of both sides."""
WARM_UP = 25.0
"""Seconds that a refresher gets after its first scan, since what changed shortly before is read again in the next."""
SPREAD = 0.75
"""Least part of a resync's interval after which a look comes again. Looks that are spread over it share fewer look-ups
than one at everything, so that the share of a minute is counted by the least: 3 % below what 15 minutes showed."""
NAMESPACE = "bench-fs"
FORMAT = 1
"""Version of the JSON."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one contestant did to the filesystem."""

    seconds: float
    """For how long it was watched."""
    operations: dict[str, float]
    """How often each operation came in that time, such as `meta.Lookup`."""
    scans: dict[str, float]
    """Metadata operations of the scans that were counted one by one, by kind."""

    def per_minute(self, layer: str, *, operation: str = "") -> float:
        """Operations a minute of `meta` or `fuse`; of one `operation`, or of all."""
        counted = sum(
            count
            for name, count in self.operations.items()
            if name.startswith(f"{layer}.") and name.endswith(f".{operation}" if operation else "")
        )
        return counted * 60 / self.seconds


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both contestants on one tree."""

    jobs: int
    running: int
    idle: Cost
    """Of a mount that nobody looks at."""
    baseline: Cost
    """One worker."""
    project: Cost

    def ratio(self, layer: str) -> float:
        """How many times fewer operations than `WORKERS` in-process workers."""
        return WORKERS * self.baseline.per_minute(layer) / max(self.project.per_minute(layer), 1e-9)

    @property
    def scheduled(self) -> float:
        """Metadata operations a minute of one worker if its scans took no time: one full scan, the rest incremental."""
        incremental = round(FULL_SCAN_INTERVAL / POLL_INTERVAL) - 1
        return self.baseline.scans["full"] + incremental * self.baseline.scans["incremental"]

    @property
    def scheduled_ratio(self) -> float:
        """The ratio of metadata operations with that many."""
        return WORKERS * self.scheduled / max(self.project.per_minute("meta"), 1e-9)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120, stderr=True)
    comparisons = []
    try:
        for jobs in options.jobs or JOBS:
            with running_juicefs() as volume:
                comparison = compare(volume, jobs, options.minutes, console.log)
            comparisons.append(comparison)
            Console(width=None if sys.stdout.isatty() else 120).print(as_table(comparison))
    except (ValueError, OSError, JobCacheError, JuiceFSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if options.json:
        result = {"format": FORMAT, "python": platform.python_version(), "minutes": options.minutes}
        result["comparisons"] = [as_json(comparison) for comparison in comparisons]
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fs", description=__doc__)
    add = parser.add_argument
    add("--jobs", type=int, action="append", help=f"runs in the tree; may be repeated ({JOBS})")
    add("--minutes", type=float, default=2.0, help="that the refresher is watched (%(default)s)")
    add("--json", type=Path, help="where the result is written as well")
    return parser


# Measuring


def compare(volume: JuiceFS, jobs: int, minutes: float, say: Any) -> Comparison:
    """Build a tree of `jobs` runs on the volume, and watch first one in-process worker, then a refresher read it."""
    say(f"building a tree of {jobs:,} runs")
    tree = prepare_tree(volume.producer.path / "status", jobs, RUNNING, LOG_BYTES)
    status_dir = volume.refresher.path / "status"
    idle = _watch_idle(volume)
    with _beating(tree):
        say("one in-process worker, from one full scan to the end of the next")
        baseline = _watch_baseline(volume, status_dir)
        volume.remount(volume.refresher)  # with empty caches
        say(f"the refresher: {minutes:g} minutes after {WARM_UP:g} s of warm-up")
        project = _watch_refresher(volume, status_dir, tree.jobs, minutes * 60)
    return Comparison(tree.jobs, len(tree.running), idle, baseline, project)


@contextmanager
def _beating(tree: MeasuredTree) -> Iterator[None]:
    """Have every running job rewrite its file every 30 seconds, evenly spread, as long as the context lasts."""
    stop = threading.Event()
    parts = int(BEAT_SECONDS)
    failures: list[OSError] = []

    def beat() -> None:
        began, turn = time.monotonic(), 0
        try:
            while not stop.wait(max(0.0, began + turn - time.monotonic())):
                tree.beat(turn % parts, parts)
                turn += 1
        except OSError as error:
            failures.append(error)

    tree.beat()
    thread = threading.Thread(target=beat, name="beat")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]


def _watch_idle(volume: JuiceFS, seconds: float = 5.0) -> Cost:
    before = volume.operations(volume.refresher)
    time.sleep(seconds)
    return Cost(seconds, _since(before, volume, volume.refresher), {})


def _watch_baseline(volume: JuiceFS, status_dir: Path) -> Cost:
    """One round of the in-process cache's schedule in real time: from a full scan's end to the next one's."""
    cache = InProcessJobCache(status_dir)
    cache.full_scan()
    scans: dict[str, float] = {}
    began, before = time.monotonic(), volume.operations(volume.refresher)
    due = False
    while not due:
        time.sleep(POLL_INTERVAL)
        due = time.monotonic() - began >= FULL_SCAN_INTERVAL
        scan_before = volume.operations(volume.refresher)
        (cache.full_scan if due else cache.incremental_scan)()
        did = _since(scan_before, volume, volume.refresher)
        scans["full" if due else "incremental"] = _total(did, "meta")
    return Cost(time.monotonic() - began, _since(before, volume, volume.refresher), scans)


def _watch_refresher(volume: JuiceFS, status_dir: Path, jobs: int, seconds: float) -> Cost:
    """A refresher with its default intervals, in real time."""
    with EmbeddedServer() as server:
        before = volume.operations(volume.refresher)
        with Refresher(status_dir, url=server.url, namespace=NAMESPACE) as refresher:
            first = _total(_since(before, volume, volume.refresher), "meta")
            if refresher.jobs != jobs:
                raise ValueError(f"the refresher found {refresher.jobs} of {jobs} jobs")
            time.sleep(WARM_UP)
            began, before = time.monotonic(), volume.operations(volume.refresher)
            time.sleep(seconds)
            operations = _since(before, volume, volume.refresher)
            watched = time.monotonic() - began
            before = volume.operations(volume.refresher)
            with JobCache(server.url, namespace=NAMESPACE) as cache:
                cache.refresh(wait=True)
            everything = _since(before, volume, volume.refresher)
            resync = refresher.settings.resync_interval
        if seconds < resync:
            # None of the ended jobs was looked at in that time: each is once in a resync.
            _add_share(operations, everything, watched / (SPREAD * resync))
        return Cost(watched, operations, {"first": first, "everything": _total(everything, "meta")})


def _add_share(operations: dict[str, float], everything: Mapping[str, float], share: float) -> None:
    for name, count in everything.items():
        operations[name] = operations.get(name, 0.0) + count * share


def _since(before: Mapping[str, float], volume: JuiceFS, mount: Mount) -> dict[str, float]:
    return difference(before, volume.operations(mount))


def _total(operations: Mapping[str, float], layer: str) -> float:
    return sum(count for name, count in operations.items() if name.startswith(f"{layer}."))


# Showing


def as_json(comparison: Comparison) -> dict[str, Any]:
    """One comparison as it is written: operations a minute, unrounded; the baseline's of one worker."""
    sides = {
        "idle": comparison.idle,
        "baseline": comparison.baseline,
        "project": comparison.project,
    }
    return {
        "jobs": comparison.jobs,
        "running": comparison.running,
        "workers": WORKERS,
        "bar": BAR,
        "ratio": {layer: comparison.ratio(layer) for layer in ("meta", "fuse")},
        "scheduled_meta_per_minute": comparison.scheduled,
        "scheduled_ratio": comparison.scheduled_ratio,
        **{name: _cost_as_json(cost) for name, cost in sides.items()},
    }


def _cost_as_json(cost: Cost) -> dict[str, Any]:
    return {
        "seconds": cost.seconds,
        "meta_per_minute": cost.per_minute("meta"),
        "fuse_per_minute": cost.per_minute("fuse"),
        "per_minute": {name: n * 60 / cost.seconds for name, n in cost.operations.items()},
        "meta_per_scan": cost.scans,
    }


def as_table(comparison: Comparison) -> Table:
    """One comparison for people, an operation a line."""
    table = Table(
        title=f"JuiceFS operations a minute, {comparison.jobs:,} jobs, {comparison.running:,} running",
        title_justify="left",
        caption=_caption(comparison),
        caption_justify="left",
    )
    table.add_column("")
    for column in (f"{WORKERS} workers", "one worker", "refresher", "ratio"):
        table.add_column(column, justify="right")
    for layer in ("meta", "fuse"):
        _add_layer(table, comparison, layer)
    return table


def _add_layer(table: Table, comparison: Comparison, layer: str) -> None:
    worker, project = comparison.baseline, comparison.project
    total, ours = worker.per_minute(layer), project.per_minute(layer)
    ratio = f"{comparison.ratio(layer):,.0f}x"
    table.add_row(
        f"{layer}, all",
        f"{WORKERS * total:,.0f}",
        f"{total:,.0f}",
        f"{ours:,.0f}",
        ratio,
        style="bold",
    )
    names = {n for cost in (worker, project) for n in cost.operations if n.startswith(f"{layer}.")}
    operations = (name.partition(".")[2] for name in names)
    for operation in sorted(operations, key=lambda one: -worker.per_minute(layer, operation=one)):
        theirs = worker.per_minute(layer, operation=operation)
        ours = project.per_minute(layer, operation=operation)
        table.add_row(
            f"  {operation}", f"{WORKERS * theirs:,.0f}", f"{theirs:,.0f}", f"{ours:,.0f}"
        )


def _caption(comparison: Comparison) -> str:
    met = "met" if comparison.ratio("meta") >= BAR else "not met"
    scans = {**comparison.baseline.scans, **comparison.project.scans}
    counted = ", ".join(f"{kind} {count:,.0f}" for kind, count in scans.items())
    return (
        f"Bar: {BAR:g}x fewer metadata operations: {met}. Metadata operations a scan: {counted}. "
        f"Watched for {comparison.baseline.seconds:.0f} s and {comparison.project.seconds:.0f} s. If the baseline's "
        f"scans took no time, a worker would do {comparison.scheduled:,.0f} a minute: "
        f"{comparison.scheduled_ratio:,.0f}x. Idle, the mount does {comparison.idle.per_minute('meta'):.0f}."
    )


if __name__ == "__main__":
    sys.exit(main())
