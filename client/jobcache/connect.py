"""Clients of redis-py for an endpoint, sync and async: the one place where pools are made.

Where the server to talk to is not fixed, a connection looks for it each time it connects, and connects anew when the
server turns out not to be in charge any more. Everything above it sees one server.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from redis import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis import asyncio as aio
from redis.asyncio.connection import UnixDomainSocketConnection as AioUnixConnection
from redis.asyncio.retry import Retry as AioRetry
from redis.backoff import NoBackoff
from redis.connection import UnixDomainSocketConnection
from redis.exceptions import (
    ClusterDownError,
    MovedError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from jobcache.endpoint import Endpoint, Topology
from jobcache.route import Address, AskFailedError, ClusterRoute, Inquiry, NoRouteError, Route

_NOT_IN_CHARGE = (ReadOnlyError, MovedError, ClusterDownError)
"""What a server says that another one has taken over from."""


def connect(endpoint: Endpoint, *, deadline: float, max_connections: int) -> Redis:
    """A client with a pool of its own. Nothing is connected yet.

    Args:
        endpoint: where to.
        deadline: seconds that one exchange may take.
        max_connections: size of the pool; callers beyond it wait, within the deadline.
    """
    options = _pool_options(endpoint, deadline, max_connections)
    kind = options.pop("connection_class", Connection)
    if route := endpoint.route():
        options |= _route_options(endpoint, route, deadline, kind)
        kind = _RoutedSSLConnection if issubclass(kind, SSLConnection) else _RoutedConnection
        if endpoint.topology is Topology.SENTINEL:
            options["redis_connect_func"] = _require_primary
    return Redis.from_pool(BlockingConnectionPool(connection_class=kind, **options))


def connect_async(endpoint: Endpoint, *, deadline: float, max_connections: int) -> aio.Redis:
    """The same for the event loop that runs now."""
    options = _pool_options(endpoint, deadline, max_connections)
    options["retry"] = AioRetry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    kind: Any = _AIO_KINDS[options.pop("connection_class", Connection)]
    if route := endpoint.route():
        options |= _route_options(endpoint, route, deadline, kind)
        encrypted = issubclass(kind, aio.SSLConnection)
        kind = _AioRoutedSSLConnection if encrypted else _AioRoutedConnection
        if endpoint.topology is Topology.SENTINEL:
            options["redis_connect_func"] = _require_primary_async
    return aio.Redis.from_pool(aio.BlockingConnectionPool(connection_class=kind, **options))


_AIO_KINDS: Mapping[Any, Any] = {
    Connection: aio.Connection,
    SSLConnection: aio.SSLConnection,
    UnixDomainSocketConnection: AioUnixConnection,
}


def _pool_options(endpoint: Endpoint, deadline: float, max_connections: int) -> dict[str, Any]:
    options = endpoint.options(deadline=deadline, max_connections=max_connections)
    if endpoint.credentials is not None:
        options["credential_provider"] = endpoint.credentials
    return {**options, **endpoint.server_options}


def _route_options(endpoint: Endpoint, route: Route, deadline: float, kind: Any) -> dict[str, Any]:
    options = {
        name: value for name, value in endpoint.server_options.items() if name.startswith("ssl_")
    }
    credentials = endpoint.credentials
    if endpoint.topology is Topology.SENTINEL:
        credentials = endpoint.sentinel_credentials
    guide = _Guide(route, deadline / 2, kind, {**options, "credential_provider": credentials})
    return {"guide": guide}


class _Guide:
    """Finds the server to connect to: asks as a route tells.

    Args:
        route: the way.
        budget: seconds that a search may take.
        kind: class of the connections to those who are asked.
        options: of those connections.
    """

    def __init__(self, route: Route, budget: float, kind: Any, options: Mapping[str, Any]) -> None:
        self.route = route
        self._budget = budget
        self._kind = kind
        self._options = options

    def find(self) -> Address:
        search = self.route.search(self._budget)
        try:
            inquiry = next(search)
            while True:
                try:
                    reply = self._ask(inquiry)
                except (RedisError, OSError) as error:
                    inquiry = search.throw(AskFailedError(str(error)))
                else:
                    inquiry = search.send(reply)
        except StopIteration as stop:
            return cast(Address, stop.value)
        except NoRouteError as error:
            raise RedisConnectionError(str(error)) from None

    async def find_async(self) -> Address:
        search = self.route.search(self._budget)
        try:
            inquiry = next(search)
            while True:
                try:
                    reply = await self._ask_async(inquiry)
                except (RedisError, OSError) as error:
                    inquiry = search.throw(AskFailedError(str(error)))
                else:
                    inquiry = search.send(reply)
        except StopIteration as stop:
            return cast(Address, stop.value)
        except NoRouteError as error:
            raise RedisConnectionError(str(error)) from None

    def _ask(self, inquiry: Inquiry) -> Any:
        connection = self._connection_for(inquiry)
        try:
            connection.connect()
            connection.send_command(*inquiry.command)
            return connection.read_response()
        finally:
            connection.disconnect()

    async def _ask_async(self, inquiry: Inquiry) -> Any:
        connection = self._connection_for(inquiry)
        try:
            await connection.connect()
            await connection.send_command(*inquiry.command)
            return await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)

    def _connection_for(self, inquiry: Inquiry) -> Any:
        return self._kind(
            host=inquiry.address.host,
            port=inquiry.address.port,
            protocol=2,
            socket_connect_timeout=inquiry.seconds,
            socket_timeout=inquiry.seconds,
            **self._options,
        )


class _Routed:
    """What a routed connection knows, whether sync or async."""

    host: str
    port: int

    def __init__(self, *, guide: _Guide, **options: Any) -> None:
        self._guide = guide
        self._next: Address | None = None
        super().__init__(**options)

    def _take_next(self) -> Address | None:
        address, self._next = self._next, None
        return address

    def _heed(self, error: RedisError) -> RedisConnectionError:
        """Remember where to go instead; the error that makes a caller connect anew."""
        here = Address(self.host, self.port)
        route = self._guide.route
        if isinstance(error, MovedError) and isinstance(route, ClusterRoute):
            self._next = route.moved(str(error), here)
        return RedisConnectionError(f"{here} is not in charge: {error}")


class _RoutedConnection(_Routed, Connection):
    def _connect(self) -> Any:
        self.host, self.port = self._take_next() or self._guide.find()
        return super()._connect()  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)
        except _NOT_IN_CHARGE as error:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise self._heed(error) from error


class _RoutedSSLConnection(_RoutedConnection, SSLConnection):
    pass


class _AioRoutedConnection(_Routed, aio.Connection):
    async def _connect(self) -> None:
        self.host, self.port = self._take_next() or await self._guide.find_async()
        await super()._connect()  # type: ignore[no-untyped-call]

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except _NOT_IN_CHARGE as error:
            await self.disconnect(nowait=True)
            raise self._heed(error) from error


class _AioRoutedSSLConnection(_AioRoutedConnection, aio.SSLConnection):
    pass


def _require_primary(connection: Any) -> None:
    """Refuse a server that a Sentinel takes for the primary, but that has been demoted."""
    connection.on_connect()
    connection.send_command("ROLE")
    with suppress(NoPermissionError):  # its writes are refused if it is none
        _check_role(connection, connection.read_response())


async def _require_primary_async(connection: Any) -> None:
    await connection.on_connect()
    await connection.send_command("ROLE")
    with suppress(NoPermissionError):
        _check_role(connection, await connection.read_response())


def _check_role(connection: Any, reply: Any) -> None:
    if reply[0] not in (b"master", "master"):
        raise RedisConnectionError(f"{connection.host}:{connection.port} is no primary")
