"""``getaddrinfo``, which knows no time-out: a name server that hangs keeps a thread of its own, not the caller.

Nor one of asyncio's default executor, which an application may need, and which a closing loop waits for.
"""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def resolve(host: str, port: int, family: int, seconds: float) -> list[Any]:
    """The addresses of a name, as ``socket.getaddrinfo`` gives them.

    Raises:
        TimeoutError: the name servers did not answer in so many seconds.
        OSError: the name is not known.
    """
    with suppress(socket.gaierror, UnicodeError):
        return _look_up_number(host, port, family)
    found: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()
    _look_up(host, port, family, found.put)
    try:
        answer = found.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no address of {host} in time") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


async def resolve_async(host: str, port: int, family: int) -> list[Any]:
    """The same for asyncio, for as long as the caller waits."""
    with suppress(socket.gaierror, UnicodeError):
        return _look_up_number(host, port, family)
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Any] | OSError] = loop.create_future()

    def tell(answer: list[Any] | OSError) -> None:
        if not found.done():
            found.set_result(answer)

    def hand_over(answer: list[Any] | OSError) -> None:
        with suppress(RuntimeError):  # the loop is closed by now
            loop.call_soon_threadsafe(tell, answer)

    _look_up(host, port, family, hand_over)
    answer = await found
    if isinstance(answer, OSError):
        raise answer
    return answer


def _look_up_number(host: str, port: int, family: int) -> list[Any]:
    flags = socket.AI_NUMERICHOST
    return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=flags)


def _look_up(
    host: str, port: int, family: int, tell: Callable[[list[Any] | OSError], None]
) -> None:
    def work() -> None:
        try:
            tell(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))
        except OSError as error:
            tell(error)
        except UnicodeError:  # a Sentinel or a node said it
            tell(OSError(f"{host!r} is no host name"))

    threading.Thread(target=work, name="jobcache-resolve", daemon=True).start()
