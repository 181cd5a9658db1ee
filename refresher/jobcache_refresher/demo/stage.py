"""Everything of the demonstration at work: server, jobs, refresher, workers. All of it ends with the context."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobcache import JobCache
from jobcache_refresher.demo.producer import Producer
from jobcache_refresher.demo.tree import build_tree
from jobcache_refresher.demo.workers import WebWorkers, free_port
from jobcache_refresher.embedded import EmbeddedServer
from jobcache_refresher.refresher import Refresher

NAMESPACE: Final = "demo"
POLL_INTERVAL: Final = 2.0
RELIST_INTERVAL: Final = 5.0
"""Seconds; shorter than by default, so that a run which somebody edits or deletes by hand shows at once."""


@dataclass(frozen=True)
class Stage:
    """What there is to look at."""

    status_dir: Path
    redis_url: str
    workers: WebWorkers
    cache: JobCache
    finished_run: Path
    """The directory of a run that nobody writes to any more."""


@contextmanager
def set_up(*, jobs: int, port: int | None, wait: Callable[[float], bool]) -> Iterator[Stage]:
    """Start everything over `jobs` finished runs and forty live ones; `port` is the workers'.

    `wait` sleeps some seconds, and returns whether to give up waiting. Raises `DemoError` or `JobCacheError` when
    something does not start.
    """
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="jobcache-demo-", ignore_cleanup_errors=True)
        directory = Path(stack.enter_context(temporary))
        _log_to(directory / "refresher.log")
        status_dir = directory / "status"
        server = EmbeddedServer(port=free_port())
        stack.callback(server.stop)
        workers = WebWorkers(directory, redis_url=server.url, namespace=NAMESPACE, port=port)
        stack.enter_context(workers)
        server.start()
        history = build_tree(status_dir, jobs, running=0)
        stack.enter_context(_producing(Producer(status_dir)))
        stack.enter_context(
            Refresher(
                status_dir,
                poll_interval=POLL_INTERVAL,
                relist_interval=RELIST_INTERVAL,
                url=server.url,
                namespace=NAMESPACE,
            )
        )
        cache = stack.enter_context(JobCache(server.url, namespace=NAMESPACE))
        workers.start(wait)
        stack.callback(workers.stop)
        newest = max(history, key=lambda run: run.name)
        yield Stage(status_dir, server.url, workers, cache, newest)


def _log_to(file: Path) -> None:
    """What the refresher has to say would tear the live line."""
    form = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(filename=file, level=logging.INFO, format=form, force=True)


@contextmanager
def _producing(producer: Producer) -> Iterator[None]:
    stop = threading.Event()

    def produce() -> None:
        while not stop.is_set():
            try:
                producer.run(stop)
            except OSError:  # somebody removed a directory that a run was being written to
                stop.wait(0.5)

    thread = threading.Thread(target=produce, name="producer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
