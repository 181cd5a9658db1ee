"""Which Redis, and how to talk to it: URLs, passwords, deadlines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from redis import Connection, SSLConnection
from redis.connection import UnixDomainSocketConnection
from redis.crc import key_slot
from redis.credentials import CredentialProvider, UsernamePasswordCredentialProvider

from jobcache.errors import ConfigError
from jobcache.schema.keys import Keys
from jobcache.transport.credentials import PASSWORD_FILE_VARIABLE, PasswordFile
from jobcache.transport.options import read_options
from jobcache.transport.route import Address, ClusterRoute, Route, SentinelRoute
from jobcache.transport.url import RedisUrl, Topology, mask_password

URL_VARIABLES = ("JOBCACHE_REDIS_URL", "REDIS_URL")
"""Where a URL is looked for when none is passed, in this order."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A checked Redis URL. Its ``repr`` shows no password."""

    url: str = field(repr=False)
    setting: str
    """Where the URL came from: ``url`` or the name of a variable."""
    topology: Topology = Topology.SERVER
    seeds: tuple[Address, ...] = ()
    """The Sentinels, or some nodes of the Cluster."""
    service: str = ""
    """The name by which the Sentinels know the primary."""
    slot: int | None = None
    """The slot of the namespace in a Cluster."""
    server_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What the URL says of connections to servers, in redis-py's words and without passwords."""
    credentials: CredentialProvider | None = field(default=None, repr=False)
    sentinel_credentials: CredentialProvider | None = field(default=None, repr=False)

    @classmethod
    def find(
        cls,
        url: str | None = None,
        environ: Mapping[str, str] = os.environ,
        *,
        namespace: str | None = None,
        password_file: str | None = None,
    ) -> Endpoint:
        """The URL passed, or the first one that the environment holds.

        Args:
            url: what to use instead of the environment's.
            environ: variables.
            namespace: which of the caches is meant; tells the node of a Cluster.
            password_file: file with the password, for a URL that holds none; by default
                ``JOBCACHE_REDIS_PASSWORD_FILE``.

        Raises:
            ConfigError: there is no URL, or it cannot be used, or a file that it needs cannot be read.
        """
        if url:
            endpoint = _read_url(url, "url")
        else:
            variable = next((name for name in URL_VARIABLES if environ.get(name)), None)
            if variable is None:
                raise ConfigError(
                    "no Redis URL: pass url=..., or set JOBCACHE_REDIS_URL, for example to redis://localhost:6379/0"
                )
            endpoint = _read_url(environ[variable], variable)
        return endpoint._complete(environ, namespace, password_file)

    def _complete(
        self, environ: Mapping[str, str], namespace: str | None, password_file: str | None
    ) -> Endpoint:
        endpoint = self
        if namespace is not None:
            endpoint = replace(endpoint, slot=key_slot(Keys(namespace).prefix))
        if password_file:
            return endpoint.with_password_file(password_file, "password_file")
        path = environ.get(PASSWORD_FILE_VARIABLE)
        return endpoint.with_password_file(path, PASSWORD_FILE_VARIABLE) if path else endpoint

    def with_password_file(self, path: str, setting: str) -> Endpoint:
        """The same with the password that a file holds, unless the URL has one.

        Raises:
            ConfigError: the file cannot be read or is empty.
        """
        if isinstance(self.credentials, UsernamePasswordCredentialProvider):
            if self.credentials.password:
                return self
            file = PasswordFile(path, setting, self.credentials.username)
        else:
            file = PasswordFile(path, setting)
        file.read()
        return replace(self, credentials=file)

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return mask_password(self.url)

    def route(self) -> Route | None:
        """The way to the server to talk to; None where the URL names it."""
        match self.topology:
            case Topology.SENTINEL:
                return SentinelRoute(self.seeds, self.service)
            case Topology.CLUSTER:
                return ClusterRoute(self.seeds, self.slot)
            case Topology.SERVER:
                return None


def _read_url(url: str, setting: str) -> Endpoint:
    try:
        return _read_parts(RedisUrl.read(url), url, setting)
    except (ValueError, TypeError) as error:  # a TypeError: an older redis-py lacks an option
        raise ConfigError(f"{setting}={mask_password(url)}: {error}") from None


def _read_parts(parts: RedisUrl, url: str, setting: str) -> Endpoint:
    sentinel = parts.topology is Topology.SENTINEL
    options = read_options(parts.query, encrypted=parts.encrypted, sentinel=sentinel)
    service = parts.path[0] if sentinel and parts.path else ""
    if sentinel and not service:
        raise ValueError("name the service, as in redis+sentinel://host:26379/service")
    database = parts.path[1:] if sentinel else parts.path
    options.setdefault("db", _read_database(database))
    if parts.topology is Topology.CLUSTER and options["db"]:
        raise ValueError("a Cluster has no databases but 0")
    own = options.pop("username", None), options.pop("password", None)
    sentinels_own = options.pop("sentinel_username", None), options.pop("sentinel_password", None)
    kind: Any = SSLConnection if parts.encrypted else Connection
    if parts.socket or not parts.hosts:
        kind, options["path"] = UnixDomainSocketConnection, parts.socket
    else:
        options["host"], options["port"] = parts.hosts[0]
    fitting = {name: value for name, value in options.items() if name != "max_connections"}
    kind(**fitting, protocol=2)  # which an older redis-py may refuse
    return Endpoint(
        url,
        setting,
        parts.topology,
        () if parts.topology is Topology.SERVER else parts.hosts,
        service,
        server_options={**options, "connection_class": kind},
        credentials=_credentials(parts.username or own[0], parts.password or own[1]),
        sentinel_credentials=_credentials(*sentinels_own),
    )


def _read_database(path: tuple[str, ...]) -> int:
    if not path:
        return 0
    if len(path) > 1 or not (path[0].isascii() and path[0].isdigit()):
        raise ValueError(f"database {'/'.join(path)!r}: use a whole number from 0")
    return int(path[0])


def _credentials(username: str | None, password: str | None) -> CredentialProvider | None:
    if username or password:
        return UsernamePasswordCredentialProvider(username, password)
    return None
