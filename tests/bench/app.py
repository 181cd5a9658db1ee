"""The web application: requests a second, latency, and what its workers hold, on either cache.

Both run under gunicorn with its own asgi worker, asked by the same load generator for the same mix of answers. First
nobody refreshes, so that only the queries differ, and the two take turns; then everybody does: each in-process worker
for itself, as it would, and for jobcache its one refresher.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from tests.bench import inprocess_app
from tests.bench.peer import Peer
from tests.bench.rows import Row
from tests.bench.setting import Setting
from tests.bench.tree import MeasuredTree

SECTION = "app"
CONNECTIONS = 2
"""To each worker."""
TURNS = 3
"""Of each application, while nobody refreshes."""
MOST_REQUESTS = 50_000
"""In one turn."""
LEAD_IN = 30.0
"""Seconds of refreshing before the load: with a window of 60 s, half of that is in the in-process cache's first full
scan, which comes every 60 s."""
STOPPING = 10.0
BEAT_EVERY = 10.0
BEAT_PARTS = 3
"""Each running job beats every 30 seconds."""

_REPOSITORY = Path(__file__).resolve().parents[2]
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(slots=True)
class Load:
    """What a load generator saw and cost, over some turns."""

    seconds: float = 0.0
    cpu: float = 0.0
    latencies: dict[str, list[float]] = field(default_factory=dict)
    failed: int = 0
    """Requests that were not answered with 200."""

    def add(self, turn: Mapping[str, Any]) -> None:
        """One more turn."""
        self.seconds += turn["seconds"]
        self.cpu += turn["cpu"]
        self.failed += turn["failed"]
        for path, some in turn["latencies"].items():
            self.latencies.setdefault(path, []).extend(some)

    @property
    def requests(self) -> int:
        return sum(map(len, self.latencies.values()))

    @property
    def rate(self) -> float:
        """Requests a second that were answered with 200."""
        return (self.requests - self.failed) / self.seconds

    def quantile(self, share: float) -> float:
        """The latency that this share of all requests stays within, in seconds."""
        every = sorted(one for some in self.latencies.values() for one in some)
        return every[math.ceil(share * len(every)) - 1]

    def detail(self, side: str, names: Mapping[str, str]) -> dict[str, Any]:
        """Further numbers for the JSON."""
        by_name: dict[str, list[float]] = {}
        for path, some in self.latencies.items():
            by_name.setdefault(names[path], []).extend(some)
        return {
            f"{side}_requests": self.requests,
            f"{side}_failed": self.failed,
            f"{side}_p50": self.quantile(0.5),
            f"{side}_medians": {name: median(some) for name, some in by_name.items() if some},
            f"{side}_generator_cpu": self.cpu / self.seconds,
        }


def measure(setting: Setting) -> list[Row]:
    """Every row of the application; the cache is published, and goes on to be."""
    workers = setting.effort.app_workers
    with (
        tempfile.TemporaryDirectory(prefix="jobcache-bench-app-") as directory,
        _beating(setting.tree),
        contextlib.ExitStack() as baseline_life,
    ):
        refresh_once = Path(directory, "refresh")
        setting.say(f"{workers} workers with the baseline scan")
        baseline = baseline_life.enter_context(
            _application(
                setting,
                "tests.bench.inprocess_app:app",
                {
                    inprocess_app.STATUS_DIR: str(setting.tree.root),
                    inprocess_app.REFRESH_ONCE: str(refresh_once),
                },
            )
        )
        with setting.refresher() as refresher:
            refresher.ask("open")
            refresher.ask("close")
        environment = {
            "JOBCACHE_REDIS_URL": setting.url,
            "JOBCACHE_NAMESPACE": setting.namespace,
        }
        with _application(setting, "jobcache.web:app", environment) as project:
            note = _compare(setting, baseline, project)
            at_rest = _in_turn(setting, baseline, project)
            rows = _pair(setting, "nobody refreshes", at_rest, note)
            setting.say("requests while it refreshes")
            held = baseline.memory(), project.memory()
            refresh_once.touch()
            before = _while_refreshing(setting, baseline)
            grown = baseline.memory()
            baseline_life.close()
            with setting.refresher(poll_interval=setting.effort.poll_interval) as refresher:
                refresher.ask("open")
                now = _while_refreshing(setting, project)
                refresher_rss = refresher.ask("rss")
                refresher.ask("close")
        rows += _pair(setting, "while it refreshes", (before, now), "")
        rows.append(_memory_row(setting, held, grown, refresher_rss))
    return rows


def mix(tree: MeasuredTree) -> dict[str, tuple[str, int]]:
    """The paths that are asked for, with the name of each, and how often it comes among twenty requests."""
    project = quote(tree.project)
    job = "/".join(map(quote, (tree.project, tree.group, tree.name, tree.run_id)))
    return {
        "/api/jobs?limit=100": ("list", 4),
        f"/api/jobs?project={project}&limit=100": ("list of a project", 2),
        "/api/jobs?status=failed&limit=100": ("list of a status", 2),
        "/api/dashboard/stats": ("stats", 3),
        "/api/jobs/running": ("running", 1),
        f"/api/jobs/{job}": ("get", 8),
    }


def turns(tree: MeasuredTree) -> list[str]:
    """The paths of the mix in the order in which they are asked for, kinds spread evenly."""
    places = [
        ((number + 0.5) / count, path)
        for path, (_, count) in mix(tree).items()
        for number in range(count)
    ]
    return [path for _, path in sorted(places)]


@dataclass(frozen=True, slots=True)
class Application:
    """A running one, and who asks it."""

    load: Peer
    workers: Sequence[int]
    """Process ids."""

    def memory(self) -> float | None:
        """Bytes of all workers, shared pages counted once; None where the system does not tell."""
        total = 0
        for worker in self.workers:
            try:
                found = _PSS.search(Path(f"/proc/{worker}/smaps_rollup").read_text())
            except OSError:
                return None
            total += int(found[1]) * 1024 if found else 0
        return float(total)


@contextlib.contextmanager
def _application(
    setting: Setting, target: str, environment: Mapping[str, str]
) -> Iterator[Application]:
    count = setting.effort.app_workers
    with contextlib.ExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            port = listener.getsockname()[1]
            process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", target, "-k", "asgi", "-w", str(count)]
                + ["-b", f"fd://{listener.fileno()}", "--log-level", "warning"]
                # A worker that scans is slow to say that it is alive, and connections must outlast the other's turn.
                + ["--timeout", "0", "--keep-alive", "3600"]
                + ["--graceful-timeout", "1", "--no-control-socket"],
                cwd=_REPOSITORY,
                env={**os.environ, **environment},
                pass_fds=[listener.fileno()],
            )
        stack.callback(_stop, process)
        load = stack.enter_context(Peer("load", port=port))
        path = next(reversed(mix(setting.tree)))
        workers = load.ask("open", path=path, workers=count, each=CONNECTIONS)
        yield Application(load, workers)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOPPING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _beating(tree: MeasuredTree) -> Iterator[None]:
    ended = threading.Event()

    def beat() -> None:
        part = 0
        while not ended.wait(BEAT_EVERY):
            tree.beat(part, BEAT_PARTS)
            part = (part + 1) % BEAT_PARTS

    tree.beat()
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _compare(setting: Setting, baseline: Application, project: Application) -> str:
    different = [
        name
        for path, (name, _) in mix(setting.tree).items()
        if baseline.load.ask("summary", path=path) != project.load.ask("summary", path=path)
    ]
    return f"ANSWERS DIFFER: {', '.join(different)}" if different else ""


def _in_turn(setting: Setting, baseline: Application, project: Application) -> tuple[Load, Load]:
    before, now = Load(), Load()
    paths = turns(setting.tree)
    seconds = setting.effort.app_seconds / 2 / TURNS
    for turn in range(TURNS):
        setting.say(f"requests while nobody refreshes, turn {turn + 1}/{TURNS}")
        for application, load in ((baseline, before), (project, now)):
            load.add(application.load.ask("run", paths=paths, seconds=seconds, most=MOST_REQUESTS))
    return before, now


def _while_refreshing(setting: Setting, application: Application) -> Load:
    seconds = setting.effort.app_seconds
    time.sleep(min(LEAD_IN, seconds / 2))
    load = Load()
    paths = turns(setting.tree)
    load.add(application.load.ask("run", paths=paths, seconds=seconds, most=MOST_REQUESTS))
    return load


def _pair(setting: Setting, when: str, loads: tuple[Load, Load], note: str) -> list[Row]:
    baseline, project = loads
    names = {path: name for path, (name, _) in mix(setting.tree).items()}
    detail = {**baseline.detail("baseline", names), **project.detail("project", names)}
    shares = [f"{load.cpu / load.seconds:.1%}" for load in loads]
    cost = f"the load generator took {' and '.join(shares)} of a core"
    failed = f"FAILED: {baseline.failed} and {project.failed}"
    rate_note = "; ".join(
        filter(None, (note, failed if baseline.failed + project.failed else "", cost))
    )
    medians = (
        f"medians {baseline.quantile(0.5) * 1e3:.3g} ms and {project.quantile(0.5) * 1e3:.3g} ms"
    )
    several = f"{baseline.requests} and {project.requests} requests; {medians}"
    return [
        Row(
            *(SECTION, f"app: requests a second, {when}", "requests a second"),
            baseline.rate,
            project.rate,
            rate_note,
            detail,
        ),
        Row(
            *(SECTION, f"app: p99, {when}", "seconds"),
            baseline.quantile(0.99),
            project.quantile(0.99),
            several,
        ),
    ]


def _memory_row(
    setting: Setting,
    held: tuple[float | None, float | None],
    grown: float | None,
    refresher_rss: int,
) -> Row:
    baseline, project = held
    server = setting.server.used_memory()
    beside = f"beside them: the refresher {refresher_rss / 1e6:.0f} MB"
    if server is not None:
        beside += f", Redis {server / 1e6:.0f} MB"
    if grown is not None:
        beside += f"; the baseline's while it scans: {grown / 1e6:.0f} MB"
    return Row(
        *(SECTION, "app: memory of all workers", "bytes", baseline, project, beside),
        {"refresher": refresher_rss, "server": server, "baseline_scanning": grown},
    )
