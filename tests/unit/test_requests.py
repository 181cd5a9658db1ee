"""The thread that reads what clients ask of the refresher: what it does when it is stopped."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from jobcache.schema.keys import Keys
from jobcache_refresher.triggers.requests import RequestInbox

KEYS = Keys("n")
INVALIDATE = [[KEYS.requests, [[b"2-0", [b"request", b"refresh"]]]]]


class Server:
    """Answers a read once it is told to, and notes what it is asked."""

    def __init__(self, reply: Any) -> None:
        self.asked: list[bytes] = []
        self.waits, self.answers = threading.Event(), threading.Event()
        self._reply = reply

    def ask(self, *command: Any) -> Any:
        self.asked.append(command[0])
        if command[0] != b"XREAD":
            return 1
        self.waits.set()
        self.answers.wait(5)
        return self._reply


class Deleter:
    """Nobody asks it."""

    def open(self, position: bytes) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize("reply", [None, INVALIDATE], ids=["nothing came", "a request came"])
def test_stop_while_it_reads_takes_nothing_from_whoever_leads_next(reply: Any) -> None:
    server, woken = Server(reply), threading.Event()
    inbox = RequestInbox(server, KEYS, Deleter(), woken.set)  # type: ignore[arg-type]
    inbox.open(b"1-0")
    (thread,) = [one for one in threading.enumerate() if one.name == "jobcache-requests"]
    assert server.waits.wait(5)
    inbox.stop()
    server.answers.set()
    thread.join(5)
    assert not thread.is_alive()
    assert server.asked == [b"XREAD"]  # and the key of a release is not deleted
    assert not woken.is_set()
