"""``python -m jobcache_refresher.demo``: everything at work on this machine, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Final
from urllib.parse import quote

from jobcache import CacheState, JobCacheError
from jobcache.schema.keys import Keys
from jobcache_refresher.demo.stage import (
    NAMESPACE,
    POLL_INTERVAL,
    RELIST_INTERVAL,
    Stage,
    set_up,
)
from jobcache_refresher.demo.workers import DemoError

LINE_INTERVAL: Final = 2.0
"""Seconds between two live lines."""


class EndRequest:
    """Whether SIGINT, SIGTERM or SIGHUP has come. Waits on a pipe: an `Event` set in a handler can deadlock."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def wait(self, seconds: float) -> bool:
        """Sleep until one has come, at most for some seconds; returns whether one has."""
        return bool(select.select([self._read], [], [], max(0.0, seconds))[0])

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):  # it has been asked for often enough
            os.write(self._write, b".")


def introduction(stage: Stage) -> str:
    """What runs where, and three things to try."""
    api, redis = stage.workers.url, shlex.quote(stage.redis_url)
    jobs_key = shlex.quote(Keys(NAMESPACE).full(b"jobs").decode())
    run = stage.finished_run
    run_url = shlex.quote(f"{api}/api/jobs/{quote(run.relative_to(stage.status_dir).as_posix())}")
    return f"""
jobcache demo: one refresher reads the tree, Redis holds the jobs, four workers answer.

  page        {api}/
  redis       {stage.redis_url}
  status dir  {stage.status_dir}
  logs        {stage.status_dir.parent}/*.log

The refresher:

    refresher = Refresher(status_dir, poll_interval={POLL_INTERVAL:g}, url=redis_url, namespace="{NAMESPACE}")
    await refresher.start()    # one full scan, then it goes on in the background
    await refresher.stop()

Three things to try in another terminal:

  1. Ask the workers. Repeat it: another worker answers, and the jobs change.

    curl -s '{api}/api/jobs?status=running&limit=3' | python3 -m json.tool
    curl -sI {api}/api/jobs | grep -i x-jobcache

  2. Read the same in Redis: the five newest starts.

    redis-cli -u {redis} ZREVRANGE {jobs_key} 0 4 WITHSCORES

  3. Delete a run (or edit its metadata.json). Within {2 * RELIST_INTERVAL:g} seconds no worker has it any more.

    curl -s {run_url} | python3 -m json.tool
    rm -r {shlex.quote(str(run))}
    curl -s {api}/api/health; sleep {2 * RELIST_INTERVAL:g}
    curl -s {run_url}

Ctrl-C stops everything.
"""


def follow(stage: Stage, end: EndRequest, seconds: float | None) -> None:
    """Say how things stand every two seconds, until the end is asked for or the time is up.

    Raises `DemoError` when the workers have ended.
    """
    ends = float("inf") if seconds is None else time.monotonic() + seconds
    is_terminal = sys.stdout.isatty()
    start, finish = ("\r\x1b[K", "") if is_terminal else ("", "\n")
    while True:
        stage.workers.check()
        print(f"{start}{live_line(stage)}", end=finish, flush=True)
        left = ends - time.monotonic()
        if end.wait(min(LINE_INTERVAL, left)) or left <= LINE_INTERVAL:
            print(end="\n" if is_terminal else "", flush=True)
            return


def live_line(stage: Stage) -> str:
    """How things stand now."""
    now = time.strftime("%H:%M:%S")
    try:
        counts = stage.cache.counts()
    except JobCacheError as error:
        return f"{now}  {error}"
    fresh = stage.cache.last_freshness
    assert fresh is not None
    state = "" if fresh.state is CacheState.READY else f", {fresh.state.value}: {fresh.reason}"
    return (
        f"{now}  {counts.total_jobs} jobs, {counts.running} running, {counts.stale} stale, "
        f"generation {fresh.generation}, scanned {fresh.age or 0:.1f} s ago{state}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobcache_refresher.demo", description="Everything at work, until Ctrl-C."
    )
    parser.add_argument(
        "--port", type=int, help="port of the workers; by default 8000 or the next free one"
    )
    parser.add_argument(
        "--jobs", type=_count, default=500, help="finished runs to begin with (%(default)s)"
    )
    parser.add_argument("--seconds", type=_span, help="end after that many seconds")
    options = parser.parse_args(arguments)

    end = EndRequest()
    try:
        with set_up(jobs=options.jobs, port=options.port, wait=end.wait) as stage:
            if not end.wait(0):
                print(introduction(stage), flush=True)
                follow(stage, end, options.seconds)
                print("stopping", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on
    except (DemoError, JobCacheError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: use a whole number from 1")
    return int(text)


def _span(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: use a number from 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
