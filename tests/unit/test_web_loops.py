"""An event loop of asyncio for servers that run another one."""

from __future__ import annotations

import asyncio
import threading

import pytest
from starlette.types import Message, Receive, Scope, Send

from jobcache.web.loops import LoopThread, runs_asyncio


def test_runs_asyncio_tells_of_a_running_loop() -> None:
    async def ask() -> bool:
        return runs_asyncio()

    assert asyncio.run(ask())
    assert not runs_asyncio()
    with pytest.raises(StopIteration, match="False"):  # as another kind of event loop drives it
        ask().send(None)


def test_serve_answers_from_the_thread_and_hands_on_what_was_sent() -> None:
    seen: list[str] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert runs_asyncio()
        assert (await receive())["type"] == "http.disconnect"
        seen.append(threading.current_thread().name)
        await send({"type": "one"})
        await send({"type": scope["type"]})
        if len(seen) == 2:
            raise RuntimeError("a defect")

    async def send(message: Message) -> None:
        sent.append(message)

    async def twice() -> None:
        thread = LoopThread()
        await thread.serve(app, {"type": "http"}, send)
        with pytest.raises(RuntimeError, match="a defect"):
            await thread.serve(app, {"type": "http"}, send)

    asyncio.run(twice())
    assert seen == ["jobcache-asyncio"] * 2
    assert sent == [{"type": "one"}, {"type": "http"}] * 2
