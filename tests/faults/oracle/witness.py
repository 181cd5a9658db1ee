"""(g) by MONITOR: no script writes under a token that is older than the newest one granted."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

from tests.faults.oracle.place import Place
from tests.faults.oracle.server import ADMIN_TIMEOUT
from tests.faults.oracle.watcher import Watcher

LINE = re.compile(rb'\+?\d+\.\d+ \[\d+ ([^\]]*)\] "([^"]+)"')
TOKEN = re.compile(rb'"[^" ]+:\d+:[0-9a-f]{8} (\d+)"')
WRITES = frozenset(
    [b"SET", b"DEL", b"UNLINK", b"PEXPIRE", b"HSET", b"HDEL", b"HINCRBY"]
    + [b"ZADD", b"ZREM", b"ZREMRANGEBYSCORE", b"XADD"]
)


class Witness(Watcher):
    """Reads what the server does, command by command."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._newest = 0
        self._acting: int | None = None
        self._lease = b'"' + place.keys.lease + b'"'

    def look(self) -> None:
        """Watch until the connection ends, or another server leads."""
        promotions = self.place.server.promotions
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ADMIN_TIMEOUT)
            connection.connect(self.place.server.socket)
            connection.sendall(b"MONITOR\r\n")
            self._acting = None
            for line in self._lines(connection, promotions):
                self._hear(line)

    def _lines(self, connection: socket.socket, promotions: int) -> Iterator[bytes]:
        rest = b""
        while not self.is_over and self.place.server.promotions == promotions:
            try:
                data = connection.recv(1 << 18)
            except TimeoutError:
                continue
            if not data:
                return
            *lines, rest = (rest + data).split(b"\r\n")
            yield from lines

    def _hear(self, line: bytes) -> None:
        found = LINE.match(line)
        if found is None:
            return
        source, verb = found.groups()
        verb = verb.upper()
        if source != b"lua":
            script = verb.startswith(b"EVAL") and not verb.endswith(b"_RO")
            token = TOKEN.search(line) if script else None
            self._acting = int(token[1]) if token else None
        elif verb in WRITES:
            if verb == b"SET" and self._lease in line[:200]:
                self._hear_grant(line)
            elif self._acting is not None:
                self._hear_write(line)

    def _hear_grant(self, line: bytes) -> None:
        token = TOKEN.search(line)
        granted = int(token[1]) if token else 0
        self.place.journal.count("leases granted")
        self.place.journal.note(f"lease granted: {line.split(b' ', 3)[-1][:120]!r}")
        if granted <= self._newest:
            self.place.journal.violate("g", f"token {granted} was granted after {self._newest}")
        self._newest = max(self._newest, granted)

    def _hear_write(self, line: bytes) -> None:
        assert self._acting is not None
        self.place.journal.count("fenced writes")
        # A grant that was missed while there was no connection.
        self._newest = max(self._newest, self._acting)
        if self._acting < self._newest:
            self.place.journal.violate(
                "g", f"token {self._acting} writes after {self._newest} was granted: {line[:300]!r}"
            )
