"""A server of the refresher that replies as a test tells it, and clocks that a test sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

from jobcache.schema.scripts import Script
from jobcache_refresher.clock import Clock
from jobcache_refresher.publish.server import Server


class SetClock:
    """Both clocks stand still until they are moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    @property
    def clock(self) -> Clock:
        return Clock(time=lambda: self.now, monotonic=lambda: self.now)


class Call(NamedTuple):
    """What a server was asked: a command, or a script by its name."""

    name: str
    keys: tuple[Any, ...]
    args: tuple[Any, ...]


Answer = Callable[[Call], Any]


class FakeServer:
    """Replies to commands and scripts by their name; an error is raised. What has no reply fails the test."""

    def __init__(self, **replies: Any) -> None:
        self.shown = "redis://h"
        self.replies: dict[str, Any] = dict(replies)
        """A value, or a function of the call."""
        self.calls: list[Call] = []

    @property
    def server(self) -> Server:
        return cast(Server, cast(Any, self))

    def called(self, name: str) -> list[Call]:
        """The calls of one name."""
        return [call for call in self.calls if call.name == name]

    def ask(self, *command: Any) -> Any:
        verb = command[0].decode()
        return self._reply(Call(verb, (), command[1:]))

    def run(self, script: Script, keys: Iterable[bytes], args: Iterable[Any]) -> Any:
        return self._reply(Call(script.name, tuple(keys), tuple(args)))

    def _reply(self, call: Call) -> Any:
        self.calls.append(call)
        assert call.name in self.replies, f"nobody said what to reply to {call}"
        reply = self.replies[call.name]
        if callable(reply):
            reply = reply(call)
        if isinstance(reply, Exception):
            raise reply
        return reply


def in_turn(*replies: Any) -> Answer:
    """One reply after another; the last one stays."""
    left = list(replies)
    return lambda call: left.pop(0) if len(left) > 1 else left[0]
