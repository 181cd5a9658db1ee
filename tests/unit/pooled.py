"""Both pools over connections that answer as they are told."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Protocol

from jobcache.transport.aiopool import AsyncPool
from jobcache.transport.budget import Budget
from jobcache.transport.pool import Pool
from tests.unit.test_breaker import Time

PING = (b"PING",)


LONG = 5.0
"""Seconds that an exchange may take which nothing keeps waiting."""


class FakeConnection:
    """Answers as it is told; sending opens it, as of those of redis-py."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.budget = Budget()
        self.is_open = False
        self.sent: list[tuple[bytes, ...]] = []
        self.ends: list[float] = []
        """Until when each reply was waited for."""
        self.replies: deque[Any] = deque()
        """What it answers next; an error is raised. Without any it answers with its number."""

    def send_command(self, *command: bytes, check_health: bool) -> None:
        self.is_open = True
        self.sent.append(command)

    def pack_commands(self, commands: Any) -> Any:
        return commands

    def send_packed_command(self, commands: Any, check_health: bool) -> None:
        for command in commands:
            self.send_command(*command, check_health=check_health)

    def read_response(self) -> Any:
        self.ends.append(self.budget.ends)
        reply = self.replies.popleft() if self.replies else self.number
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def disconnect(self) -> None:
        self.is_open = False


class AsyncFakeConnection(FakeConnection):
    """The same for asyncio."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.go_on: asyncio.Event | None = None
        """What a reply waits for."""
        self._parser = SimpleNamespace(on_disconnect=lambda: None)
        self._reader = None
        self._writer: Any = None

    async def send_command(self, *command: bytes, check_health: bool) -> None:  # type: ignore[override]
        super().send_command(*command, check_health=check_health)
        transport = SimpleNamespace(abort=super().disconnect)
        self._writer = SimpleNamespace(transport=transport)

    async def read_response(self) -> Any:
        if self.go_on is not None:
            await self.go_on.wait()
        return super().read_response()

    async def disconnect(self) -> None:  # type: ignore[override]
        super().disconnect()


class Pooled(Protocol):
    """A pool of either kind, with the connections that it made."""

    time: Time
    made: list[Any]

    def exchange(self, seconds: float = LONG, begin: Callable[[], None] = lambda: None) -> Any: ...

    def close(self) -> None: ...

    def fill(self, count: int) -> None:
        """Have several connections idle, the first one used last."""


class ThreadPooled:
    def __init__(self, size: int) -> None:
        self.time = Time()
        self.made: list[Any] = []
        self.pool = Pool(self._make, size, self.time)

    def _make(self) -> FakeConnection:
        made = FakeConnection(len(self.made))
        self.made.append(made)
        return made

    def exchange(self, seconds: float = LONG, begin: Callable[[], None] = lambda: None) -> Any:
        return self.pool.exchange(PING, self.time() + seconds, begin)

    def close(self) -> None:
        self.pool.close()

    def fill(self, count: int) -> None:
        lent = [self.pool.lend(self.time() + LONG) for _ in range(count)]
        for connection, since in reversed(lent):
            connection.send_command(*PING, check_health=False)
            self.pool.take_back(connection, since)


class LoopPooled:
    def __init__(self, size: int) -> None:
        self.time = Time()
        self.made: list[Any] = []
        self.runner = asyncio.Runner()
        self.pool = self.runner.run(self._make_pool(size))

    async def _make_pool(self, size: int) -> AsyncPool:
        return AsyncPool(self._make, size, self.time)

    def _make(self) -> AsyncFakeConnection:
        made = AsyncFakeConnection(len(self.made))
        self.made.append(made)
        return made

    def exchange(self, seconds: float = LONG, begin: Callable[[], None] = lambda: None) -> Any:
        return self.runner.run(self.pool.exchange(PING, self.time() + seconds, begin))

    def close(self) -> None:
        self.runner.run(self.pool.close())

    def fill(self, count: int) -> None:
        gates = [asyncio.Event() for _ in range(count)]
        make = self.pool.make_connection

        def make_held_up() -> Any:
            connection = make()
            connection.go_on = gates[connection.number]
            return connection

        async def use_all() -> None:
            exchanges = [self.pool.exchange(PING, self.time() + LONG, lambda: None) for _ in gates]
            tasks = [asyncio.create_task(exchange) for exchange in exchanges]
            await asyncio.sleep(0)
            for gate, task in reversed(list(zip(gates, tasks, strict=True))):
                gate.set()
                await task

        self.pool.make_connection = make_held_up
        self.runner.run(use_all())
        self.pool.make_connection = make
