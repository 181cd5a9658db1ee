"""Connections for an endpoint, sync and async: the one place where pools are made."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import partial
from typing import Any

from redis import Connection, SSLConnection
from redis.asyncio.retry import Retry as AioRetry
from redis.backoff import NoBackoff
from redis.connection import UnixDomainSocketConnection
from redis.retry import Retry

from jobcache.errors import ConfigError
from jobcache.transport import connections as kinds
from jobcache.transport.aiopool import AsyncPool
from jobcache.transport.endpoint import Endpoint
from jobcache.transport.guide import Guide
from jobcache.transport.pool import Pool
from jobcache.transport.route import Route
from jobcache.transport.url import Topology

_KINDS: Mapping[Any, Any] = {
    Connection: kinds.TcpConnection,
    SSLConnection: kinds.TlsConnection,
    UnixDomainSocketConnection: kinds.UnixConnection,
}
_AIO_KINDS: Mapping[Any, Any] = {
    Connection: kinds.AioTcpConnection,
    SSLConnection: kinds.AioTlsConnection,
    UnixDomainSocketConnection: kinds.AioUnixDomainConnection,
}
_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}
"""Seconds and tries, so that the kernel keeps an idle connection in the memory of the network."""
_OWN_TIMES = ("socket_timeout", "socket_connect_timeout")
"""Options of redis-py in whose place a budget stands."""


def pool_size(endpoint: Endpoint, max_connections: int) -> int:
    """How many connections a pool may have: what the URL says, else what the caller does.

    Raises:
        ConfigError: none.
    """
    size: int = endpoint.server_options.get("max_connections", max_connections)
    if size < 1:
        raise ConfigError(f"max_connections={size}: use a whole number from 1")
    return size


def make_pool(endpoint: Endpoint, *, size: int) -> Pool:
    """A pool of connections that keep to the budget of each exchange. Nothing is connected yet."""
    options = _common_options(endpoint, Retry(NoBackoff(), 0))
    kind = _KINDS[options.pop("connection_class", Connection)]
    if route := endpoint.route():
        options["guide"] = _guide(endpoint, route, kind)
        encrypted = issubclass(kind, SSLConnection)
        kind = kinds.RoutedTlsConnection if encrypted else kinds.RoutedConnection
        if endpoint.topology is Topology.SENTINEL:
            options["redis_connect_func"] = kinds.require_primary
    return Pool(partial(kind, **options), size)


def make_async_pool(endpoint: Endpoint, *, size: int) -> AsyncPool:
    """The same for one event loop."""
    options = _common_options(endpoint, AioRetry(NoBackoff(), 0))
    options |= dict.fromkeys(_OWN_TIMES)
    kind = _AIO_KINDS[options.pop("connection_class", Connection)]
    if route := endpoint.route():
        options["guide"] = _guide(endpoint, route, kind, no_times=True)
        encrypted = issubclass(kind, kinds.AioTlsConnection)
        kind = kinds.AioRoutedTlsConnection if encrypted else kinds.AioRoutedConnection
        if endpoint.topology is Topology.SENTINEL:
            options["redis_connect_func"] = kinds.require_primary_async
    return AsyncPool(partial(kind, **options), size)


def _common_options(endpoint: Endpoint, retry: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"protocol": 2, "client_name": "jobcache", "retry": retry}
    if endpoint.credentials is not None:
        options["credential_provider"] = endpoint.credentials
    if endpoint.server_options.get("connection_class") is not UnixDomainSocketConnection:
        options |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    options |= endpoint.server_options
    options.pop("max_connections", None)
    return options


def _guide(endpoint: Endpoint, route: Route, kind: Any, *, no_times: bool = False) -> Guide:
    options: dict[str, Any] = {
        name: value for name, value in endpoint.server_options.items() if name.startswith("ssl_")
    }
    if no_times:
        options |= dict.fromkeys(_OWN_TIMES)
    credentials = endpoint.credentials
    if endpoint.topology is Topology.SENTINEL:
        credentials = endpoint.sentinel_credentials
    return Guide(route, kind, {**options, "credential_provider": credentials, "protocol": 2})
