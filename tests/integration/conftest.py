"""What tests of the clients and of the JSON API share: callers, a way that can be disturbed, and a tree."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from jobcache_refresher import Refresher
from jobcache_refresher.demo.tree import build_tree
from tests.conftest import Servers
from tests.faults.oracle.proxy import Proxy
from tests.integration.callers import Caller, credentials
from tests.integration.web import NAMESPACE, build_odd_runs
from tests.servers import RunningServer


@pytest.fixture(scope="module")
def web_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("web") / "status"
    build_tree(root, 230, running=0.05)
    build_odd_runs(root)
    return root


@pytest.fixture(scope="module")
def web_server(servers: Servers, web_tree: Path) -> Iterator[RunningServer]:
    """A server that holds the tree, which does not change."""
    valkey = servers["valkey-9"]
    with valkey.client() as redis:  # what another module's tree left
        for key in redis.scan_iter(f"jobcache:{{{NAMESPACE}}}:*"):
            redis.delete(key)
    with Refresher(
        web_tree, poll_interval=600, relist_interval=600, url=valkey.url, namespace=NAMESPACE
    ):
        yield valkey


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each client in turn."""
    kind: str = request.param
    return kind


@pytest.fixture
def calling(kind: str) -> Iterator[Callable[..., Caller]]:
    """Makes callers."""
    with ExitStack() as stack:

        def make(url: str, **options: Any) -> Caller:
            return stack.enter_context(contextlib.closing(Caller(kind, url, **options)))

        yield make


@pytest.fixture
def proxy(valkey: RunningServer) -> Iterator[Proxy]:
    """A way to the real server that can be disturbed."""
    proxy = Proxy(valkey.url.rpartition("@")[2].removeprefix("unix://"))
    proxy.url = proxy.url.replace("redis://", f"redis://{credentials(valkey)}")
    proxy.start()
    yield proxy
    proxy.end()
