"""A TCP proxy that misbehaves on demand, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from enum import Enum

CHUNK = 65536


class Mode(Enum):
    """What the proxy does to what passes."""

    PASS = "pass"
    DELAY = "delay"
    """Everything comes late, also after its sender has given up."""
    CUT = "cut"
    """Every connection is closed, and new ones at once."""
    RESET = "reset"
    """The same with a RST."""
    LATE_RESET = "late-reset"
    """A request passes; instead of its reply comes a RST."""
    SWALLOW = "swallow"
    """Requests pass, replies vanish; the connection stays half dead for ever."""
    HOLD = "hold"
    """Nothing passes until this ends; then all of it does, also after its sender has given up."""


class Proxy:
    """From a port of 127.0.0.1 to a unix socket."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.mode = Mode.PASS
        self.delay = 0.0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._thread = threading.Thread(target=self._run, name="oracle-proxy", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def set(self, mode: Mode, delay: float = 0.0) -> None:
        """Behave like this from now on."""
        self._loop.call_soon_threadsafe(self._set, mode, delay)

    def drop(self) -> None:
        """Close every connection: behind it is another server now."""
        self._loop.call_soon_threadsafe(self._drop)

    def turn(self, upstream: str) -> None:
        """Lead new connections to another server; those that exist stay where they are."""
        self._upstream = upstream

    def forget(self) -> None:
        """Let nothing pass on connections that exist, and tell nobody; new ones are well."""
        asyncio.run_coroutine_threadsafe(self._forget(), self._loop).result()

    def end(self) -> None:
        """Close everything."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            server = self._loop.run_until_complete(
                asyncio.start_server(self._accept, sock=self._listener)
            )
            self._loop.run_forever()
            server.close()
            for task in self._tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
            self._loop.run_until_complete(asyncio.sleep(0))
        finally:
            self._loop.close()

    def _set(self, mode: Mode, delay: float) -> None:
        self.mode, self.delay = mode, delay
        if mode is Mode.HOLD:
            self.go_on.clear()
        else:
            self.go_on.set()
        if mode in {Mode.CUT, Mode.RESET}:
            self._drop(reset=mode is Mode.RESET)

    def _drop(self, *, reset: bool = False) -> None:
        for link in list(self._links):
            link.close(reset=reset)

    async def _forget(self) -> None:
        for link in self._links:
            link.forgotten = True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.mode in {Mode.CUT, Mode.RESET}:
            _close(writer, reset=self.mode is Mode.RESET)
            return
        try:
            upstream = await asyncio.open_unix_connection(self._upstream)
        except OSError:
            _close(writer, reset=False)
            return
        link = _Link(self, reader, writer, *upstream)
        self._links.add(link)
        try:
            # Cancelled only at the end, when asyncio would log it as an error of the callback.
            with contextlib.suppress(asyncio.CancelledError):
                await link.run()
        finally:
            self._links.discard(link)


class _Link:
    """One connection, and the one behind it."""

    def __init__(
        self,
        proxy: Proxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._up_reader, self._up_writer = up_reader, up_writer
        self._muted = False
        self.forgotten = False

    async def run(self) -> None:
        """Pump both ways. What the client sent is delivered also after it left."""
        replies = asyncio.ensure_future(self._replies())
        try:
            with contextlib.suppress(OSError):
                await self._requests()
        finally:
            replies.cancel()
            await asyncio.gather(replies, return_exceptions=True)
            self.close(reset=False)

    def close(self, *, reset: bool) -> None:
        _close(self._writer, reset=reset)
        _close(self._up_writer, reset=False)

    async def _requests(self) -> None:
        while data := await self._read(self._reader):
            await self._wait()
            if self.forgotten:
                continue
            self._up_writer.write(data)
            await self._up_writer.drain()

    async def _replies(self) -> None:
        while data := await self._read(self._up_reader):
            await self._wait()
            if self._proxy.mode is Mode.LATE_RESET:
                self.close(reset=True)
                return
            self._muted |= self._proxy.mode is Mode.SWALLOW
            if not self._muted:
                self._writer.write(data)
                await self._writer.drain()
        # The server is gone: so is this.
        _close(self._writer, reset=False)

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(CHUNK)
        except OSError:
            return b""

    async def _wait(self) -> None:
        if self._proxy.mode is Mode.DELAY:
            await asyncio.sleep(self._proxy.delay)
        await self._proxy.go_on.wait()


def _close(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    sock = writer.get_extra_info("socket")
    if reset and sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort() if reset else writer.close()
