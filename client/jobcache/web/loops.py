"""Servers that run no asyncio, such as hypercorn's trio worker: there, the application runs in a thread that does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Scope, Send


def runs_asyncio() -> bool:
    """Whether the event loop that runs here is one of asyncio."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class LoopThread:
    """A thread with an event loop of asyncio. It begins when it is first needed, and ends with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, app: ASGIApp, scope: Scope, send: Send) -> None:
        """Have an application answer one request in this thread. It must need no body, and send an answer whole."""
        sent: list[Message] = []

        async def keep(message: Message) -> None:
            sent.append(message)

        try:
            await self.run(app(scope, _receive_nothing, keep))
        finally:
            for message in sent:
                await send(message)

    async def run(self, work: Awaitable[None]) -> None:
        """Wait, in whatever event loop runs here, until this thread has done some work."""

        async def do() -> None:
            await work

        done = asyncio.run_coroutine_threadsafe(do(), self._begin())
        await run_in_threadpool(done.result)

    def _begin(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                target = self._loop.run_forever
                threading.Thread(target=target, name="jobcache-asyncio", daemon=True).start()
            return self._loop


async def _receive_nothing() -> Message:
    return {"type": "http.disconnect"}
