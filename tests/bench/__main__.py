"""`python -m tests.bench`: the in-process cache and jobcache side by side, in one run.

Whether a bar is met is information: the exit code is 0 unless the run itself failed. With `--compare OLD.json` nothing
is run: the file of `--json` is compared with the old one, and a ratio that fell too far makes the exit code 1.

Parts: `tree` (start-up, memory, refreshing, queries), `app` (the web application under load), `encodings` (memory by
kind of key on each kind of server), and with `--million` or `--scale`, `scale` (the project against itself).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError
from rich.console import Console

from jobcache.errors import JobCacheError
from jobcache_refresher import EmbeddedServer
from tests.bench import app, compare, encodings, queries, report, scale, startup, steady, workers
from tests.bench.peer import Peer, PeerError
from tests.bench.rows import Row
from tests.bench.server import ServerView
from tests.bench.setting import Effort, Setting
from tests.bench.tree import LOG_BYTES, MeasuredTree, prepare_tree

JOBS = 10_000
MILLION = (100_000, 1_000_000)
PARTS = ("tree", "app", "encodings", "scale")
RESULTS = Path("bench-results.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or compare; returns the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        if options.compare:
            return _compare(options, console)
        return _run(options, console)
    except (ValueError, OSError, RedisError, JobCacheError, PeerError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    effort = Effort()
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    add = parser.add_argument
    add("--jobs", type=int, default=JOBS, help="runs in the tree that is built (%(default)s)")
    add("--running", type=float, default=0.01, help="share of them that run (%(default)s)")
    add("--log-bytes", type=int, default=LOG_BYTES, help="size of their logs (%(default)s)")
    add("--tree", type=Path, help="use the tree in this directory; built there if it is empty")
    add("--url", help="measure with this server; by default an embedded one")
    add("--json", type=Path, default=RESULTS, help="where the result is written (%(default)s)")
    add("--scans", type=int, default=effort.scans, help="first scans, restarts (%(default)s)")
    add("--rounds", type=int, default=effort.rounds, help="of each query (%(default)s)")
    add(
        *("--seconds",),
        type=float,
        default=effort.seconds,
        help="after which a query gets no further round (%(default)s)",
    )
    add(
        *("--poll-interval",),
        type=float,
        default=effort.poll_interval,
        help=f"of the steady refresher; {2 * steady.CYCLES} of it are waited for (%(default)s s)",
    )
    add(
        *("--app-seconds",),
        type=float,
        default=effort.app_seconds,
        help="of load on the web application, thrice (%(default)s)",
    )
    add("--app-workers", type=int, default=effort.app_workers, help="of it (%(default)s)")
    add(
        *("--scale",),
        type=int,
        nargs=2,
        metavar=("FEW", "MANY"),
        help="the project against itself at two numbers of jobs, without a tree",
    )
    add(
        *("--million",),
        dest="scale",
        action="store_const",
        const=MILLION,
        help="short for --scale 100000 1000000; takes five minutes and 4 GB",
    )
    add("--only", nargs="+", choices=PARTS, default=PARTS, help="some parts of the run only")
    add("--keep", action="store_true", help="keep the rows of other parts in the --json file")
    add("--compare", type=Path, metavar="OLD", help="compare the --json file with an older one")
    add("--factor", type=float, default=2.0, help="by which a ratio may fall (%(default)s)")
    return parser


def _compare(options: argparse.Namespace, console: Console) -> int:
    old, new = compare.load(options.compare), compare.load(options.json)
    found = compare.changes(old, new)
    console.print(compare.as_table(found, options.factor))
    if lacking := compare.missing(old, new):
        console.print(f"only in {options.compare}: {'; '.join(lacking)}")
    return int(any(compare.is_worse(one, options.factor) for one in found))


def _run(options: argparse.Namespace, console: Console) -> int:
    began = time.monotonic()
    effort = Effort(
        options.scans,
        options.rounds,
        options.seconds,
        options.poll_interval,
        options.app_seconds,
        options.app_workers,
    )
    known = compare.load(options.json) if options.keep and options.json.exists() else {}
    circumstances: dict[str, Any] = {
        "jobs": options.jobs,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    if known and known["jobs"] != options.jobs:
        raise ValueError(f"{options.json}: of {known['jobs']} jobs, not of {options.jobs}")
    rows: list[Row] = []
    for some, more in _parts(options, effort):
        rows += some
        circumstances |= more
        circumstances["seconds"] = round(time.monotonic() - began)
        # After each part: what was measured in minutes is not lost with the next one.
        result = report.as_json(rows, circumstances)
        report.write(compare.merged(known, result) if known else result, options.json)
    console.print(report.as_table(rows, circumstances))
    return 0


def _parts(
    options: argparse.Namespace, effort: Effort
) -> Iterator[tuple[list[Row], dict[str, Any]]]:
    """The rows of each part that is wanted, and the circumstances that belong to them."""
    if {"tree", "app"} & set(options.only):
        with _server(options.url) as (url, server), _tree(options) as tree:
            setting = Setting(tree, url, f"bench-{secrets.token_hex(4)}", server, effort, _say)
            found = {
                "jobs": tree.jobs,
                "running": len(tree.running),
                "server": server.version(),
            }
            try:
                if "tree" in options.only:
                    yield _measure_tree(setting), found
                if "app" in options.only:
                    yield app.measure(setting), found
            finally:
                server.drop(setting.prefix)
    if "encodings" in options.only:
        jobs = min(encodings.JOBS, options.jobs)
        yield encodings.measure(jobs, _say), {"encodings_jobs": jobs}
    if options.scale is not None and "scale" in options.only:
        small, large = options.scale
        yield scale.measure(effort, small, large, _say), {"scale": [small, large]}


def _measure_tree(setting: Setting) -> list[Row]:
    rows: list[Row] = []
    server = setting.server
    with Peer("baseline", tree=str(setting.tree.root)) as baseline:
        setting.say("the baseline's full scan")
        full_scan = baseline.ask("scan", kind="full")
        baseline_rss = baseline.ask("rss")
        with server.slow_log(), server.going_first():
            rows += startup.measure(setting, baseline, full_scan)
            rows.append(startup.slow_row("longest command, first publication", server.slowest()))
        rows += steady.measure(setting, baseline, full_scan["cpu"])
        setting.catch_up(baseline)
        with server.slow_log(), setting.client() as client:
            rows += queries.measure(setting, baseline, client)
            rows.append(startup.slow_row("longest command, queries", server.slowest()))
            rows += queries.measure_traffic(setting, client)
    rows.append(workers.measure(setting, baseline_rss))
    return rows


@contextlib.contextmanager
def _tree(options: argparse.Namespace) -> Iterator[MeasuredTree]:
    if options.tree is not None:
        _say(f"the tree in {options.tree}")
        yield prepare_tree(
            options.tree.absolute(), options.jobs, options.running, options.log_bytes
        )
        return
    _say(f"a tree of {options.jobs:,} jobs")
    with tempfile.TemporaryDirectory(prefix="jobcache-bench-") as directory:
        yield prepare_tree(Path(directory), options.jobs, options.running, options.log_bytes)


@contextlib.contextmanager
def _server(url: str | None) -> Iterator[tuple[str, ServerView]]:
    with contextlib.ExitStack() as stack:
        if url is None:
            url = stack.enter_context(EmbeddedServer()).url
        yield url, stack.enter_context(contextlib.closing(ServerView(url)))


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
