"""A cache that is whole, for tests that spoil it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.contract.damage import fill
from tests.harness import Rig
from tests.servers import RunningServer


@pytest.fixture
def jobs(status_dir: Path) -> None:
    """The runs of ``whole``: twenty, unless a module writes others."""
    fill(status_dir, 20)


@pytest.fixture
def whole(
    real_server: RunningServer, status_dir: Path, namespace: str, jobs: None
) -> Iterator[Rig]:
    """A cache that all runs were published to, on each kind of real server."""
    with Rig(real_server.url, status_dir, namespace) as rig:
        rig.settle()
        yield rig


@pytest.fixture
def redis(real_server: RunningServer) -> Iterator[Redis]:
    """A client that may do anything."""
    with real_server.client() as client:
        yield client
