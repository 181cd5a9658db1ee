"""What of redis-py is used that it does not promise, named in one place.

redis-py has no public way to connect within a time that is shared by name look-up, connect, TLS and handshake, nor to
close an asyncio connection at once. A test checks that these names exist, on the oldest and on the newest release that
is allowed.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any

SYNC_NAMES = ("_connect", "_sock")
"""Of ``redis.Connection``: ``transport.connections`` overrides the first; the second holds what it returns."""
ASYNC_NAMES = ("_connect", "_connection_arguments", "_parser", "_reader", "_writer")
"""Of ``redis.asyncio.Connection``: the first two are overridden, the others are read and reset here."""


def abort(connection: Any) -> None:
    """Close an async connection now, whatever is still to be sent, and without waiting for anybody."""
    writer = _take_writer(connection)
    if writer is not None:
        writer.transport.abort()


def abandon(connection: Any, *, shared: bool) -> None:
    """Give up an async connection whose event loop does not run in this process any more.

    Args:
        connection: which.
        shared: whether it is the parent's, who goes on using it. Then this process's descriptor is made one of
            nothing: to close the connection's own would also take it out of the loop's epoll, which is shared too.
    """
    writer = _take_writer(connection)
    if writer is None:
        return
    with suppress(OSError, AttributeError, TypeError):
        inner = writer.get_extra_info("socket")
        if not shared:
            inner.shutdown(socket.SHUT_RDWR)
            return
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.dup2(nothing, inner.fileno(), inheritable=False)
        finally:
            os.close(nothing)


def _take_writer(connection: Any) -> Any:
    """The stream of a connection, which is without one from then on."""
    writer = getattr(connection, "_writer", None)
    connection._parser.on_disconnect()
    connection._reader = connection._writer = None
    return writer
