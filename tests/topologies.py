"""Real servers that are more than one process: a primary under Sentinels, a Cluster; and certificates for TLS."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.tools import HOST, free_port, require

LONGEST_WAIT = 20.0
"""Seconds that a topology may take to settle."""
SERVICE = "jobs"


def eventually(is_so: Callable[[], bool], timeout: float = LONGEST_WAIT) -> None:
    """Return once something is so; errors of a server count as not yet."""
    ends = time.monotonic() + timeout
    while True:
        try:
            if is_so():
                return
        except (RedisError, OSError):
            pass
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.05)


@dataclass
class Node:
    """One ``redis-server`` process on a port."""

    port: int
    process: subprocess.Popen[bytes]
    password: str = ""

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://{self.address}"

    def client(self) -> Redis:
        return Redis(
            host=HOST, port=self.port, password=self.password or None, protocol=2, socket_timeout=2
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Nodes:
    """Starts processes, each in a directory of its own, and ends them all."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._root = Path(tempfile.mkdtemp(prefix="jobcache-test-"))
        stack.callback(shutil.rmtree, self._root)

    def start(self, *options: str, mode: str = "", password: str = "", config: str = "") -> Node:
        """A node that answers."""
        port = free_port()
        directory = self._root / str(port)
        directory.mkdir()
        file = directory / "node.conf"
        file.write_text(config)
        process = subprocess.Popen(
            [require("redis-server"), str(file), *([mode] if mode else [])]
            + ["--port", str(port), "--bind", HOST, "--dir", str(directory), *options],
            stdout=subprocess.DEVNULL,
        )
        node = Node(port, process, password)
        self._stack.callback(node.kill)
        with node.client() as client:
            eventually(lambda: bool(client.ping()))
        return node


@dataclass
class Pair:
    """A primary and a replica."""

    primary: Node
    replica: Node

    def part(self) -> None:
        """From now on the replica stays as it is."""
        with self.replica.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def pair(*options: str, password: str = "") -> Iterator[Pair]:
    """Two servers, the second of which follows the first."""
    with ExitStack() as stack:
        nodes = Nodes(stack)
        options = ("--save", "", "--repl-diskless-sync-delay", "0", *options)
        primary = nodes.start(*options, password=password)
        replica = nodes.start(*options, "--replicaof", HOST, str(primary.port), password=password)
        eventually(lambda: _feeds_replica(primary))
        yield Pair(primary, replica)


@dataclass
class SentinelSetup:
    """A primary, a replica, and three Sentinels that watch them."""

    servers: list[Node]
    sentinels: list[Node]
    password: str
    nodes: Nodes = field(repr=False)

    @property
    def url(self) -> str:
        hosts = ",".join(sentinel.address for sentinel in self.sentinels)
        user = f":{self.password}@" if self.password else ""
        return f"redis+sentinel://{user}{hosts}/{SERVICE}"

    def primary(self) -> Node:
        """The server that the Sentinels name."""
        with self.sentinels[0].client() as client:
            _, port = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(node for node in self.servers if node.port == int(port))


@contextmanager
def sentinel_setup(password: str = "") -> Iterator[SentinelSetup]:
    """Sentinels that notice a dead primary after half a second."""
    with ExitStack() as stack:
        nodes = Nodes(stack)
        auth = ("--requirepass", password, "--masterauth", password) if password else ()
        options = ("--save", "", "--repl-diskless-sync-delay", "0", *auth)
        primary = nodes.start(*options, password=password)
        replica = nodes.start(*options, "--replicaof", HOST, str(primary.port), password=password)
        watch = (
            f"sentinel monitor {SERVICE} {HOST} {primary.port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
        )
        if password:
            watch += f"sentinel auth-pass {SERVICE} {password}\n"
        sentinels = [nodes.start(mode="--sentinel", config=watch) for _ in range(3)]
        setup = SentinelSetup([primary, replica], sentinels, password, nodes)
        eventually(lambda: _is_watched(setup))
        yield setup


def _is_watched(setup: SentinelSetup) -> bool:
    for sentinel in setup.sentinels:
        with sentinel.client() as client:
            flat = client.execute_command("SENTINEL MASTER", SERVICE)
        state = flat if isinstance(flat, dict) else {}
        if not state:
            state = {
                name.decode(): value.decode()
                for name, value in zip(flat[::2], flat[1::2], strict=True)
            }
        if (int(state["num-slaves"]), int(state["num-other-sentinels"])) != (1, 2):
            return False
    return _feeds_replica(setup.servers[0])


def _feeds_replica(primary: Node) -> bool:
    """Whether what is written reaches the replica at once; a link that is up does not say so yet."""
    with primary.client() as client:
        replica: dict[str, str] = client.info("replication").get("slave0", {})
    return replica.get("state") == "online"


@dataclass
class ClusterSetup:
    """Three primaries, and a replica of the one that serves the namespace."""

    primaries: list[Node]
    replica: Node

    @property
    def url(self) -> str:
        """Names every node but the one in charge."""
        return f"redis+cluster://{self.primaries[1].address},{self.primaries[2].address}"

    def serve_what_is_left(self) -> None:
        """Let the slots of nodes that live be served while those of others are not."""
        for node in [*self.primaries, self.replica]:
            with node.client() as client:
                client.config_set("cluster-require-full-coverage", "no")

    def await_state(self, state: str) -> None:
        """Return once the node in charge calls the Cluster `state`: ``ok`` or ``fail``."""
        eventually(lambda: _cluster_info(self.primaries[0])["cluster_state"] == state)

    def await_loss(self, lost: Node) -> None:
        """Return once the node in charge knows that another is dead."""

        def is_known() -> bool:
            with self.primaries[0].client() as client:
                flags: str = client.cluster("nodes")[lost.address]["flags"]
            return "fail" in flags.split(",")

        eventually(is_known)


@contextmanager
def cluster_setup(namespace: str) -> Iterator[ClusterSetup]:
    """A Cluster whose first primary serves a namespace; it notices a dead node after a second."""
    slot = key_slot(f"{{{namespace}}}".encode())
    with ExitStack() as stack:
        nodes = Nodes(stack)

        def start() -> Node:
            return nodes.start(
                *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
                *("--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0"),
                *("--save", "", "--repl-diskless-sync-delay", "0"),
            )

        primaries, replica = [start() for _ in range(3)], start()
        # Three ranges that begin where the namespace's slot lies, around the end.
        ring = [(slot + number) % 16384 for number in range(16384)]
        shares = [ring[:5000], ring[5000:10000], ring[10000:]]
        first = primaries[0]
        for node, share in zip(primaries, shares, strict=True):
            with node.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTS", *share)
        for number, node in enumerate([*primaries, replica], 1):
            with node.client() as client:
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number)
        for node in [*primaries[1:], replica]:
            with node.client() as client:
                client.execute_command("CLUSTER", "MEET", HOST, first.port, _bus_port(first))
        everyone = [*primaries, replica]
        eventually(lambda: all(map(_is_complete, everyone)))
        with first.client() as client:
            identity = client.execute_command("CLUSTER", "MYID")
        with replica.client() as client:
            eventually(lambda: bool(client.execute_command("CLUSTER", "REPLICATE", identity)))
        eventually(lambda: _feeds_replica(first))
        yield ClusterSetup(primaries, replica)


def _bus_port(node: Node) -> int:
    with node.client() as client:
        return int(client.config_get("cluster-port")["cluster-port"])


def _cluster_info(node: Node) -> dict[str, str]:
    """What a node says about the Cluster."""
    with node.client() as client:
        info: dict[str, str] = client.cluster("info")
    return info


def _is_complete(node: Node) -> bool:
    info = _cluster_info(node)
    return (info["cluster_state"], info["cluster_known_nodes"]) == ("ok", "4")
