"""A real server and its replica, that are killed, stopped, started again, and fail over.

``socket`` always leads to the primary, as the address of a managed server does: after a failover new connections reach
the promoted one. Who held a connection to the old one, keeps it until it ends.
"""

from __future__ import annotations

import math
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers import binary_of, wait_for_answer
from tests.tools import HOST, free_port
from tests.topologies import eventually

ADMIN_TIMEOUT = 0.5
NOWHERE = 1
"""A port that nobody listens on."""


class Node:
    """One process without persistence."""

    def __init__(self, binary: str, directory: Path) -> None:
        self._binary = binary
        self._directory = directory
        directory.mkdir()
        self.socket = directory / "server.sock"
        self.port = free_port()
        """For its replica."""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [self._binary, "--port", str(self.port), "--bind", HOST]
            + ["--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
            + ["--dir", str(self._directory), "--maxmemory-policy", "noeviction"]
            + ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", *options],
            stdout=subprocess.DEVNULL,
        )
        wait_for_answer(f"unix://{self.socket}", self._process, timeout=20)

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

    @property
    def lives(self) -> bool:
        return self._process is not None

    def client(self) -> Redis:
        return connect(self.socket)

    def follow(self, port: int) -> None:
        """Become a replica, as Sentinel has it done: whoever is connected must look anew."""
        with self.client() as client, client.pipeline(transaction=True) as steps:
            client.config_set("maxmemory", 0)  # it may lie full since before it was stopped
            steps.execute_command("REPLICAOF", HOST, port)
            steps.execute_command("CLIENT", "KILL", "TYPE", "normal")
            steps.execute()

    @property
    def is_in_step(self) -> bool:
        """Whether it is a replica that has all of its primary's data."""
        with self.client() as client:
            replication = client.info("replication")
        return bool(replication.get("master_link_status") == "up")


class FragileServer:
    """A primary without persistence, and its replica."""

    def __init__(self, kind: str) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="jobcache-oracle-"))
        binary = binary_of(kind)
        self._primary = Node(binary, self._directory / "a")
        self._replica = Node(binary, self._directory / "b")
        self.socket = str(self._directory / "server.sock")
        self.url = f"unix://{self.socket}"
        self.promotions = 0
        """How often another node became the primary."""
        self.changing = threading.RLock()
        """Held while another node becomes the primary."""
        self._two_primaries: list[list[float]] = []

    def start(self) -> None:
        """Start the primary, and the replica if it does not run."""
        self._primary.start()
        self._lead_to_primary()
        if not self._replica.lives:
            self._replica.start("--replicaof", HOST, str(self._primary.port))

    def kill(self) -> None:
        """SIGKILL the primary: all data is lost."""
        self._primary.kill()

    def stop(self) -> None:
        """SIGSTOP the primary."""
        self._primary.stop()

    def go_on(self) -> None:
        """SIGCONT it."""
        self._primary.go_on()

    def end(self) -> None:
        for node in (self._primary, self._replica):
            node.kill()
        shutil.rmtree(self._directory)

    def client(self) -> Redis:
        """A connection to the primary past the proxies, that gives up soon."""
        return connect(self.socket)

    # Failover

    def replica_client(self) -> Redis:
        """The same to the replica."""
        return self._replica.client()

    @property
    def can_fail_over(self) -> bool:
        """Whether the replica has what the primary has."""
        return self._replica.is_in_step

    def part(self) -> None:
        """Cut the replica off: what is written from now on is lost in a failover."""
        with self._replica.client() as client:
            client.execute_command("REPLICAOF", HOST, NOWHERE)

    def promote(self) -> None:
        """Have the replica lead, as far as it came."""
        with self.changing:
            with self._replica.client() as client:
                client.execute_command("REPLICAOF", "NO", "ONE")
            self._primary, self._replica = self._replica, self._primary
            self.promotions += 1
            self._lead_to_primary()

    def bring_back(self) -> None:
        """Have the old primary, killed or stopped, return as a replica."""
        if not self._replica.lives:
            self._replica.start("--replicaof", HOST, str(self._primary.port))
            return
        span = [time.time(), math.inf]
        self._two_primaries.append(span)
        self._replica.go_on()
        eventually(self._demote)
        span[1] = time.time()

    def had_two_primaries(self, begin: float, end: float) -> bool:
        """Whether an old primary answered within a span, before it was told that it is none any more."""
        return any(one <= end and begin <= other for one, other in self._two_primaries)

    def _demote(self) -> bool:
        self._replica.follow(self._primary.port)
        return True

    def _lead_to_primary(self) -> None:
        fresh = self._directory / "fresh"
        fresh.symlink_to(self._primary.socket)
        fresh.rename(self.socket)


def connect(path: str | Path) -> Redis:
    """A connection that gives up soon."""
    return Redis(
        unix_socket_path=str(path),
        protocol=2,
        socket_timeout=ADMIN_TIMEOUT,
        socket_connect_timeout=ADMIN_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )
