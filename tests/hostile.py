"""Servers that fail in ways of their own, each on a port of this machine, in threads."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import hiredis

Reply = bytes | None | float
"""What is sent for a command: bytes as they are; None for nothing, ever; or a pause in seconds between the bytes of a
reply that has no end."""
Answers = Callable[[list[bytes]], Reply]

HOST = "127.0.0.1"
OTHER_HOST = "127.0.0.2"
OK = b"+OK\r\n"
RESET_AFTER = b"RESET"
"""At the end of a reply: a RST follows."""


class Hostile:
    """Answers the commands of every connection as it is told to."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.accepted = 0
        """Connections so far."""
        self.asked: list[bytes] = []
        """Names of the commands so far."""
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._ended = threading.Event()
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def close(self) -> None:
        self._ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            connection.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.accepted += 1
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        reader = hiredis.Reader()
        with suppress(OSError):
            while data := connection.recv(65536):
                reader.feed(data)
                while (command := reader.gets()) is not False:
                    self.asked.append(command[0])
                    self._answer(connection, self.answers(command))

    def _answer(self, connection: socket.socket, reply: Reply) -> None:
        if isinstance(reply, float):
            connection.sendall(b"$100000\r\n")
            while not self._ended.wait(reply):
                connection.sendall(b"x")
        elif reply is not None:
            connection.sendall(reply.removesuffix(RESET_AFTER))
            if reply.endswith(RESET_AFTER):
                time.sleep(0.02)  # so that what was sent is read
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()


@contextmanager
def hostile(answers: Answers) -> Iterator[Hostile]:
    """A server for as long as the context lasts."""
    server = Hostile(answers)
    try:
        yield server
    finally:
        server.close()


def after_handshake(reply: Reply) -> Answers:
    """Every handshake is fine; what follows is not."""
    return lambda command: OK if command[0] in {b"CLIENT", b"AUTH"} else reply


@contextmanager
def black_hole(port: int = 0) -> Iterator[str]:
    """The URL of a port that does not answer to a connect: its queue of connections is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind((OTHER_HOST, port))
        listener.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        time.sleep(0.05)
        host, port = listener.getsockname()
        yield f"redis://{host}:{port}/0"


@contextmanager
def refusing() -> Iterator[str]:
    """The URL of a port where nobody listens."""
    with socket.socket() as unheard:
        unheard.bind((HOST, 0))
        yield f"redis://{HOST}:{unheard.getsockname()[1]}/0"


@contextmanager
def silent() -> Iterator[str]:
    """The URL of a port that takes connections and never says a word."""
    with socket.create_server((HOST, 0)) as listener:
        yield f"redis://{HOST}:{listener.getsockname()[1]}/0"
