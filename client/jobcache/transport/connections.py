"""Connections of redis-py that keep to a budget, and that find the server to talk to.

redis-py's time-outs are for each operation on a socket: a name look-up, a connect to each address, each reply of the
handshake, each part of a reply. Here all of them share the budget of the exchange that they are for.

Where the server to talk to is not fixed, a connection looks for it each time it connects, and connects anew when the
server turns out not to be in charge any more. Everything above it sees one server.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from redis import Connection, SSLConnection
from redis import asyncio as aio
from redis.asyncio.connection import UnixDomainSocketConnection as AioUnixConnection
from redis.connection import UnixDomainSocketConnection
from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from jobcache.transport.attempt import NotInChargeError
from jobcache.transport.budget import Budget
from jobcache.transport.guide import Guide
from jobcache.transport.private import abort
from jobcache.transport.resolve import resolve, resolve_async
from jobcache.transport.route import (
    Address,
    ClusterRoute,
)

_NOT_IN_CHARGE = (ReadOnlyError, MovedError, ClusterDownError)
"""What a server says that another one has taken over from, where a route leads to that one."""


class BudgetedSocket:
    """A connected socket on which every operation may take as long as a budget says, whoever it is.

    Not a ``socket.socket``: it has what redis-py's connections and parsers use of one.
    """

    __slots__ = ("_budget", "_socket", "close", "fileno", "getpeername", "settimeout", "shutdown")

    def __init__(self, connected: socket.socket, budget: Budget) -> None:
        self._socket = connected
        self._budget = budget
        self.close = connected.close
        self.fileno = connected.fileno
        self.getpeername = connected.getpeername
        self.settimeout = connected.settimeout
        self.shutdown = connected.shutdown

    def sendall(self, data: bytes) -> None:
        """Send all of it, in the time that is left for all of it."""
        self._socket.settimeout(self._budget.left())
        self._socket.sendall(data)

    def recv_into(self, buffer: bytearray) -> int:
        """Receive what comes next, in the time that is left."""
        self._socket.settimeout(self._budget.left())
        return self._socket.recv_into(buffer)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """The same, for parsers without a buffer of their own."""
        self._socket.settimeout(self._budget.left())
        return self._socket.recv(size, flags)

    def pending(self) -> int:
        """Decrypted bytes that no poll would see."""
        return self._socket.pending() if hasattr(self._socket, "pending") else 0


# Sync. From the bottom up: how a socket is connected, TLS around it, whom to connect to, the budget around all of it.


class _Budgeted:
    """The last that is done to a socket: keep it to the budget."""

    budget: Budget

    def __init__(self, *, budget: Budget | None = None, **options: Any) -> None:
        self.budget = budget or Budget()
        super().__init__(**options)

    def _connect(self) -> Any:
        connected = super()._connect()  # type: ignore[misc]
        return BudgetedSocket(connected, self.budget)


class _Dialling(Connection):
    """TCP to whichever address of a name answers, within one budget."""

    budget: Budget

    def _connect(self) -> Any:
        failure: OSError | None = None
        addresses = resolve(self.host, self.port, self.socket_type, self.budget.left())
        for number, (family, kind, proto, _, address) in enumerate(addresses):
            # Each gets its share, so that one that leads nowhere leaves time for the others.
            seconds = self.budget.left() / (len(addresses) - number)
            try:
                return self._dial(socket.socket(family, kind, proto), address, seconds)
            except OSError as error:
                failure = error
        raise failure or OSError(f"{self.host} has no address")

    def _dial(self, made: socket.socket, address: Any, seconds: float) -> socket.socket:
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.socket_keepalive:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, value in self.socket_keepalive_options.items():
                    made.setsockopt(socket.IPPROTO_TCP, option, value)
            made.settimeout(seconds)
            made.connect(address)
            made.settimeout(self.budget.left())  # for the TLS handshake, which is one operation
        except BaseException:
            made.close()
            raise
        return made


class _Fixed:
    """A connection to a fixed address, whether sync or async.

    A failover behind the address (a Kubernetes Service, a virtual IP, a managed endpoint) leaves connections at the old
    primary, which is a replica now and refuses writes. Any new connection leads to the new one.
    """

    refusals: tuple[type[RedisError], ...] = (ReadOnlyError, MasterDownError)

    def refuses(self, error: ResponseError) -> bool:
        """Whether the server says that another one is in charge; the texts are of scripts, and of reads that wait."""
        said = str(error)
        return isinstance(error, self.refusals) or "-READONLY " in said or said[:9] == "UNBLOCKED"

    def heed(self, error: RedisError) -> NotInChargeError:
        """The error that makes a caller connect anew."""
        return NotInChargeError(f"the server does not take writes any more: {error}")


class _Routed(_Fixed):
    """What a routed connection knows, whether sync or async."""

    refusals = _NOT_IN_CHARGE
    host: str
    port: int

    def __init__(self, *, guide: Guide, **options: Any) -> None:
        self._guide = guide
        self._next: Address | None = None
        super().__init__(**options)

    def _take_next(self) -> Address | None:
        address, self._next = self._next, None
        return address

    def heed(self, error: RedisError) -> NotInChargeError:
        """Remember where to go instead."""
        here = Address(self.host, self.port)
        route = self._guide.route
        if isinstance(error, MovedError) and isinstance(route, ClusterRoute):
            self._next = route.moved(str(error), here)
        return NotInChargeError(f"{here} is not in charge: {error}")


class _Heeding(_Fixed):
    """Gives itself up when the server says that another one is in charge."""

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError as error:
            if not self.refuses(error):
                raise
            self.disconnect()  # type: ignore[attr-defined]
            raise self.heed(error) from None


class TcpConnection(_Heeding, _Budgeted, _Dialling):
    """To a fixed server."""


class TlsConnection(_Heeding, _Budgeted, SSLConnection, _Dialling):
    """The same over TLS."""


class UnixConnection(_Heeding, _Budgeted, UnixDomainSocketConnection):
    """To a server on this machine."""

    def _connect(self) -> Any:
        self.socket_connect_timeout = self.budget.left()
        return super()._connect()


class RoutedConnection(_Routed, TcpConnection):
    """To the server that a route leads to."""

    def _connect(self) -> Any:
        self.host, self.port = self._take_next() or self._guide.find(self.budget)
        return super()._connect()


class RoutedTlsConnection(RoutedConnection, TlsConnection):
    """The same over TLS."""


# Async: the caller's ``asyncio.timeout`` ends whatever takes too long; a budget tells how to share what there is.


class _AioBudgeted:
    def __init__(self, *, budget: Budget | None = None, **options: Any) -> None:
        self.budget = budget or Budget()
        super().__init__(**options)


class _AioDialling(aio.Connection):
    """As ``_Dialling``."""

    budget: Budget
    address: str | None = None
    """The host's address that is being tried."""

    async def _connect(self) -> None:
        failure: OSError | None = None
        addresses = await resolve_async(self.host, int(self.port), self.socket_type)
        for number, (_, _, _, _, address) in enumerate(addresses):
            self.address = address[0]
            seconds = self.budget.left() / (len(addresses) - number)
            try:
                async with asyncio.timeout(seconds):
                    await super()._connect()  # type: ignore[no-untyped-call]
            except OSError as error:
                failure = error
            else:
                return
        raise failure or OSError(f"{self.host} has no address")

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "host": self.address or self.host}


class _AioHeeding(_Fixed):
    """As ``_Heeding``."""

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError as error:
            if not self.refuses(error):
                raise
            abort(self)
            raise self.heed(error) from None


class AioTcpConnection(_AioHeeding, _AioBudgeted, _AioDialling):
    """As ``TcpConnection``."""


class AioTlsConnection(_AioHeeding, _AioBudgeted, aio.SSLConnection, _AioDialling):
    """As ``TlsConnection``."""

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "server_hostname": self.host}


class AioUnixDomainConnection(_AioHeeding, _AioBudgeted, AioUnixConnection):
    """As ``UnixConnection``."""


class AioRoutedConnection(_Routed, AioTcpConnection):
    """As ``RoutedConnection``."""

    async def _connect(self) -> None:
        self.host, self.port = self._take_next() or await self._guide.find_async(self.budget)
        await super()._connect()


class AioRoutedTlsConnection(AioRoutedConnection, AioTlsConnection):
    """The same over TLS."""


# A Sentinel's word is checked, since it may not have heard of a failover.


def require_primary(connection: Any) -> None:
    """Refuse a server that a Sentinel takes for the primary, but that has been demoted."""
    connection.on_connect()
    connection.send_command("ROLE")
    with suppress(NoPermissionError):  # its writes are refused if it is none
        _check_role(connection, connection.read_response())


async def require_primary_async(connection: Any) -> None:
    """The same for asyncio."""
    await connection.on_connect()
    await connection.send_command("ROLE")
    with suppress(NoPermissionError):
        _check_role(connection, await connection.read_response())


def _check_role(connection: Any, reply: Any) -> None:
    if reply[0] not in (b"master", "master"):
        raise RedisConnectionError(f"{connection.host}:{connection.port} is no primary")
