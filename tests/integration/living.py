"""Refreshers with their threads, and what they tell."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from jobcache import JobCache
from jobcache_refresher import Refresher
from tests.servers import RunningServer
from tests.trees import Names

RUN: Names = ("p", "g", "n", "r1")


OTHER: Names = ("p", "g", "n", "r2")


def wait_for(what: Callable[[], object], timeout: float = 5.0) -> float:
    """Seconds until something is true; fails after the timeout."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < timeout, "waited in vain"
        time.sleep(0.01)
    return time.monotonic() - began


@contextmanager
def alive(
    server: RunningServer, status_dir: Path, namespace: str, **settings: Any
) -> Iterator[tuple[Refresher, JobCache]]:
    settings.setdefault("poll_interval", 0.2)
    refresher = Refresher(status_dir, url=server.url, namespace=namespace, **settings)
    with refresher, JobCache(server.url, namespace=namespace) as cache:
        yield refresher, cache


def metrics_at(port: int) -> dict[str, float]:
    """Metrics by name, without labels."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
        lines = reply.read().decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name.partition("{")[0]: float(value) for name, value in pairs}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
