"""One volume of JuiceFS for all tests of it, mounted twice."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.faults.mounted import Site, juicefs_or_skip
from tests.juicefs import JuiceFS
from tests.servers import RunningServer


@pytest.fixture(scope="package")
def mounts() -> Iterator[JuiceFS]:
    """A volume, mounted twice: skips where JuiceFS does not run, and fails there in CI."""
    with juicefs_or_skip() as volume:
        yield volume


@pytest.fixture
def volume(mounts: JuiceFS) -> Iterator[JuiceFS]:
    """The volume with both mounts up, whatever the test before did."""
    yield mounts
    mounts.thaw()
    if not mounts.refresher.is_up:
        mounts.remount(mounts.refresher)


@pytest.fixture
def site(volume: JuiceFS, valkey: RunningServer, namespace: str) -> Site:
    """An empty status directory of its own."""
    name = f"status-{uuid4().hex[:8]}"
    (volume.producer.path / name).mkdir()
    return Site(volume.producer.path / name, volume.refresher.path / name, valkey.url, namespace)
