"""Fixtures of the whole suite: one server of each kind, and a namespace of its own for every test."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from tests.harness import Rig
from tests.servers import (
    KINDS,
    REAL_KINDS,
    WRITER,
    RunningServer,
    running_server,
    write_acl_file,
)


def pytest_configure() -> None:
    """Have the programs that tests start heed SIGINT, which the children of a shell's background job ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Servers:
    """One server of each kind, started when first asked for; real ones for the refresher's user alone."""

    def __init__(self, stack: ExitStack, acl_file: Path) -> None:
        self._stack = stack
        self._acl_file = acl_file
        self._started: dict[str, RunningServer] = {}

    def __getitem__(self, kind: str) -> RunningServer:
        if kind not in self._started:
            options = ("--aclfile", str(self._acl_file)) if kind in REAL_KINDS else ()
            server = self._stack.enter_context(running_server(kind, *options))
            self._started[kind] = server.as_user(WRITER) if server.is_real else server
        return self._started[kind]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers of this session."""
    acl_file = write_acl_file(tmp_path_factory.mktemp("acl"))
    with ExitStack() as stack:
        yield Servers(stack, acl_file)


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, servers: Servers) -> RunningServer:
    """Each kind of server in turn."""
    return servers[request.param]


@pytest.fixture(params=REAL_KINDS)
def real_server(request: pytest.FixtureRequest, servers: Servers) -> RunningServer:
    """Each kind of real server in turn."""
    return servers[request.param]


@pytest.fixture
def valkey(servers: Servers) -> RunningServer:
    """One real server, where the kind does not matter."""
    return servers["valkey-9"]


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"t-{uuid4().hex[:12]}"


@pytest.fixture
def status_dir(tmp_path: Path) -> Path:
    """An empty status directory."""
    directory = tmp_path / "status"
    directory.mkdir()
    return directory


@pytest.fixture
def rig(server: RunningServer, status_dir: Path, namespace: str) -> Iterator[Rig]:
    """A refresher to be stepped by hand, and a client, on each kind of server."""
    with Rig(server.url, status_dir, namespace) as ready:
        yield ready


@pytest.fixture
def valkey_rig(valkey: RunningServer, status_dir: Path, namespace: str) -> Iterator[Rig]:
    """The same on one real server."""
    with Rig(valkey.url, status_dir, namespace) as ready:
        yield ready
