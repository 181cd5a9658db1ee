"""The load generator: keep-alive connections that ask again as soon as they are answered, in one thread.

Sockets and a selector, no HTTP library: it shares the machine with what it measures, so its own cost must be small.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import time
from collections import Counter
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from tests.bench.roles import idle

HOST = "127.0.0.1"
STARTING = 1800.0
"""Seconds within which every worker must answer."""
ANSWERING = 120.0
"""Seconds within which an answer must come."""
PAUSE = 0.05
BUFFER = 1 << 20

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_WORKER = re.compile(rb"\r\nx-jobcache-worker: *(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class _Connection:
    """A connection, and the answer that it waits for."""

    socket: socket.socket
    path: str = ""
    asked_at: float = 0.0
    head: bytes = b""
    """What came of the answer until its head was whole."""
    missing: int | None = None
    """Bytes of the body that have not come; None before the head is whole."""
    keeps: bool = False
    """Whether the body is wanted."""

    @property
    def has_failed(self) -> bool:
        """Whether the answer is none that was asked for."""
        return not self.head.startswith(b"HTTP/1.1 200 ")

    def ask(self, path: str) -> None:
        self.path, self.head, self.missing = path, b"", None
        self.asked_at = time.perf_counter()
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())

    def take(self, data: memoryview) -> bytes:
        """What follows of an answer; returns as much of its body as this was."""
        if self.missing is not None:
            self.missing -= len(data)
            return bytes(data) if self.keeps else b""
        self.head += data
        head, mark, body = self.head.partition(b"\r\n\r\n")
        if not mark:
            return b""
        length = _LENGTH.search(head)
        if length is None:
            raise RuntimeError(f"{self.path}: {head[:200]!r}")
        self.head, self.missing = head, int(length[1]) - len(body)
        return body


class Role(idle.Role):
    """Asks the workers behind a port, over as many connections to each of them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connections: list[_Connection] = []
        self._buffer = memoryview(bytearray(BUFFER))

    def open(self, path: str, workers: int, each: int) -> list[int]:
        """Connect until every worker has its connections; returns the process ids of the workers.

        Which worker accepts is the system's choice: a connection beyond what a worker is to have is given up.
        """
        ends = time.monotonic() + STARTING
        taken: Counter[int] = Counter()
        while sum(taken.values()) < workers * each:
            if time.monotonic() > ends:
                raise RuntimeError(f"connections by worker: {dict(taken)}")
            connection = _Connection(socket.create_connection((HOST, self._port), STARTING))
            self._fetch(connection, path)
            found = _WORKER.search(connection.head)
            worker = int(found[1]) if found else 0
            if taken[worker] < each:
                taken[worker] += 1
                connection.socket.settimeout(ANSWERING)
                self._connections.append(connection)
            else:
                connection.socket.close()
                time.sleep(PAUSE)
        return sorted(taken)

    def summary(self, path: str) -> Any:
        """What an answer says, as far as two caches can be compared by it."""
        answer = json.loads(self._fetch(self._connections[0], path))
        if "jobs" in answer:
            return [sorted(job["id"] for job in answer["jobs"]), answer.get("total")]
        totals = ("total_jobs", "completed", "failed", "preempted", "running", "active_chips")
        return [answer.get("id"), *(answer.get(name) for name in totals)]

    def run(self, paths: list[str], seconds: float, most: int) -> dict[str, Any]:
        """Ask in turn for some paths, on all connections at once, for some seconds or until there were `most` requests.

        Returns the seconds that it took, this process's own processor time, the latencies by path, those of requests
        that failed among them, and how many did.
        """
        latencies: dict[str, list[float]] = {path: [] for path in paths}
        failed = 0
        turns, asked = cycle(paths), 0
        cpu, began = self.cpu(), time.perf_counter()
        with selectors.DefaultSelector() as selector:
            for connection in self._connections:
                selector.register(connection.socket, selectors.EVENT_READ, connection)
                connection.ask(next(turns))
                asked += 1
            under_way = len(self._connections)
            while under_way:
                for key, _ in selector.select(ANSWERING):
                    connection = key.data
                    if not self._receive(connection):
                        continue
                    now = time.perf_counter()
                    failed += connection.has_failed
                    latencies[connection.path].append(now - connection.asked_at)
                    if now - began < seconds and asked < most:
                        connection.ask(next(turns))
                        asked += 1
                    else:
                        under_way -= 1
        taken = time.perf_counter() - began
        cpu = self.cpu() - cpu
        return {"seconds": taken, "cpu": cpu, "latencies": latencies, "failed": failed}

    def _fetch(self, connection: _Connection, path: str) -> bytes:
        connection.keeps = True
        connection.ask(path)
        body = b""
        while connection.missing != 0:
            size = self._read(connection)
            body += connection.take(self._buffer[:size])
        connection.keeps = False
        if connection.has_failed:
            raise RuntimeError(f"{path}: {connection.head[:100]!r} {body[:300]!r}")
        return body

    def _receive(self, connection: _Connection) -> bool:
        """Read what is there; whether the answer is whole."""
        connection.take(self._buffer[: self._read(connection)])
        return connection.missing == 0

    def _read(self, connection: _Connection) -> int:
        size = connection.socket.recv_into(self._buffer)
        if not size:
            raise RuntimeError(f"{connection.path}: the connection was closed")
        return size
