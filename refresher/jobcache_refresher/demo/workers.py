"""The gunicorn workers of the demonstration, as a subprocess that does not outlive it."""

from __future__ import annotations

import fcntl
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

HOST: Final = "127.0.0.1"
PREFERRED_PORT: Final = 8000
_PORTS_TRIED: Final = 50
_START_TIMEOUT: Final = 20.0
_STOP_TIMEOUT: Final = 4.0
_FIRST_FREE_DESCRIPTOR: Final = 10  # the shell below can name only those before it

# Reads a pipe that nobody writes to until the demonstration ends. The pipe's end without a word means that it was
# killed: then nobody else removes its directory. When gunicorn ends by itself, so does all of this, with its code.
_KEEPER: Final = (
    'exec 3<&0; dir=$1; shift; "$@" </dev/null 3<&- & web=$!; '
    '{ read -r _ <&3 || rm -rf "$dir"; kill $web; } & watch=$!; '
    "wait $web; code=$?; kill $watch; exit $code"
)


class DemoError(Exception):
    """The demonstration cannot start or go on; the message says why in one line."""


class WebWorkers:
    """``gunicorn jobcache.web:app -k asgi -w 4`` on a port of this machine.

    `directory` takes the log, and is removed when this process is killed. A `port` of None means 8000, or the next
    one that is free. Raises `DemoError` when the port cannot be had, or gunicorn is not installed.
    """

    def __init__(
        self, directory: Path, *, redis_url: str, namespace: str, port: int | None, count: int = 4
    ) -> None:
        self._program = _find_gunicorn()
        self._directory = directory
        self._log = directory / "gunicorn.log"
        self._count = count
        self._environment = {
            **os.environ,
            "JOBCACHE_REDIS_URL": redis_url,
            "JOBCACHE_NAMESPACE": namespace,
        }
        self._keeper: subprocess.Popen[bytes] | None = None
        self._listener = _listen(port)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://{HOST}:{self.port}"

    def start(self, wait: Callable[[float], bool]) -> None:
        """Start, and return once a worker answers, or as soon as `wait` (for some seconds) says to stop waiting.

        Raises `DemoError` when none does.
        """
        # gunicorn gets the socket that is bound already: no one else can take the port meanwhile.
        descriptor = fcntl.fcntl(self._listener, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE_DESCRIPTOR)
        command = [self._program, "jobcache.web:app", "-k", "asgi", "-w", str(self._count)]
        quiet = ["--log-level", "warning", "--graceful-timeout", "2", "--no-control-socket"]
        try:
            with self._log.open("wb") as log:
                self._keeper = subprocess.Popen(  # noqa: S603 - fixed words and our own paths
                    ["/bin/sh", "-c", _KEEPER, "sh", str(self._directory)]
                    + [*command, "-b", f"fd://{descriptor}", *quiet],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    pass_fds=[descriptor],
                    start_new_session=True,
                )
        finally:
            os.close(descriptor)
            self._listener.close()
        ends = time.monotonic() + _START_TIMEOUT
        while not self._answers():
            self.check()
            if time.monotonic() > ends:
                raise DemoError(f"gunicorn did not answer within {_START_TIMEOUT:g} s")
            if wait(0.1):
                return

    def check(self) -> None:
        """Raise `DemoError` if gunicorn has ended."""
        if self._keeper is not None and self._keeper.poll() is not None:
            raise DemoError(f"gunicorn ended with code {self._keeper.returncode}{self._said()}")

    def stop(self) -> None:
        """End every worker."""
        self._listener.close()
        if self._keeper is None:
            return
        assert self._keeper.stdin is not None
        try:
            with self._keeper.stdin as pipe:
                pipe.write(b"stop\n")
        except BrokenPipeError:
            pass  # it has ended by itself
        try:
            self._keeper.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(self._keeper.pid, signal.SIGKILL)
            self._keeper.wait()
        self._keeper = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=2)
        try:
            connection.request("GET", "/api/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _said(self) -> str:
        lines = self._log.read_text("utf-8", "replace").splitlines()
        errors = [line.partition("[ERROR] ")[2] for line in lines if "[ERROR] " in line]
        return "".join(f": {line}" for line in (errors or lines[-1:])[:1])


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _listen(port: int | None) -> socket.socket:
    if port is not None:
        try:
            return socket.create_server((HOST, port))
        except OSError as error:
            raise DemoError(f"--port {port}: {os.strerror(error.errno or 0)}") from None
        except OverflowError:
            raise DemoError(f"--port {port}: use a number from 0 to 65535") from None
    for candidate in range(PREFERRED_PORT, PREFERRED_PORT + _PORTS_TRIED):
        try:
            return socket.create_server((HOST, candidate))
        except OSError:
            continue
    return socket.create_server((HOST, 0))


def _find_gunicorn() -> str:
    beside = os.path.dirname(sys.executable)
    program = shutil.which("gunicorn", path=beside) or shutil.which("gunicorn")
    if program is None:
        raise DemoError("gunicorn is not installed: install jobcache with the extra 'all'")
    return program
