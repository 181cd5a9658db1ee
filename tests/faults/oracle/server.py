"""A real server that is killed, stopped and started again at the same socket."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers import binary_of, wait_for_answer

ADMIN_TIMEOUT = 0.5


class FragileServer:
    """One server without persistence."""

    def __init__(self, kind: str) -> None:
        self._binary = binary_of(kind)
        self._directory = tempfile.mkdtemp(prefix="jobcache-oracle-")
        self.socket = f"{self._directory}/server.sock"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._binary, "--port", "0", "--unixsocket", self.socket, "--save", ""]
            + ["--appendonly", "no", "--dir", self._directory, "--maxmemory-policy", "noeviction"],
            stdout=subprocess.DEVNULL,
        )
        wait_for_answer(self.url, self._process, timeout=20)

    def kill(self) -> None:
        """SIGKILL: all data is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.kill()
        shutil.rmtree(self._directory)

    def client(self) -> Redis:
        """A connection past the proxies, that gives up soon."""
        return Redis(
            unix_socket_path=self.socket,
            protocol=2,
            socket_timeout=ADMIN_TIMEOUT,
            socket_connect_timeout=ADMIN_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
