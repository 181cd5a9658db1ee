"""Which Redis, and how to talk to it: URLs, passwords, deadlines."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any
from urllib.parse import unquote, urlsplit

from redis import Connection, SSLConnection
from redis.connection import parse_url
from redis.crc import key_slot
from redis.credentials import CredentialProvider, UsernamePasswordCredentialProvider

from jobcache.errors import ConfigError
from jobcache.schema.keys import Keys
from jobcache.transport.credentials import PASSWORD_FILE_VARIABLE, PasswordFile
from jobcache.transport.route import (
    Address,
    ClusterRoute,
    Route,
    SentinelRoute,
)

URL_VARIABLES = ("JOBCACHE_REDIS_URL", "REDIS_URL")
"""Where a URL is looked for when none is passed, in this order."""

_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}
_PASSWORD_QUERY = re.compile(r"([?&][a-z_]*password=)[^&#]*", re.IGNORECASE)
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
SENTINEL_PORT = 26379


class Topology(Enum):
    """What a URL leads to: one server, or those who know which server to talk to."""

    SERVER = ""
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


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


def mask_password(url: str) -> str:
    """The URL as it may be logged, however malformed it is."""
    before, at, host = url.rpartition("@")
    scheme, slashes, user = (
        before.rpartition("://") if before.count("://") == 1 else ("", "", before)
    )
    name, colon, _ = user.partition(":")
    shown = f"{scheme}{slashes}{name}{':***' if colon else ''}{at}{host}"
    return _PASSWORD_QUERY.sub(r"\1***", shown)


def _read_url(url: str, setting: str) -> Endpoint:
    shown = mask_password(url)
    scheme, separator, rest = url.partition("://")
    base, plus, kind = scheme.lower().partition("+")
    kinds = [one.value for one in Topology if one.value and base != "unix"]
    if base not in _SCHEMES or not separator or (plus and kind not in kinds):
        raise ConfigError(
            f"{setting}={shown}: use a URL like {', '.join(f'{one}://' for one in _SCHEMES)}, "
            "redis+sentinel:// or redis+cluster://"
        )
    known = f"{_SCHEMES[base]}{plus}{kind}://{rest}"
    try:
        return _read_parts(known, setting, Topology(kind))
    except (ValueError, TypeError) as error:
        why = str(error)
        quoted = why.rpartition(" as ")[2].strip("'") if "cast" in why else ""
        if quoted not in url.rpartition("@")[2]:  # but in the password
            why = "percent-encode '/', '?', '#' and '@' in the password"
        raise ConfigError(f"{setting}={shown}: {why}") from None


def _read_parts(url: str, setting: str, topology: Topology) -> Endpoint:
    seeds: tuple[Address, ...] = ()
    service = ""
    single = url
    if topology is not Topology.SERVER:
        seeds, service, single = _read_seeds(single, topology)
    options: dict[str, Any] = parse_url(single)
    credentials = _take_credentials(options, "")
    sentinel_credentials = None
    if topology is Topology.SENTINEL:
        sentinel_credentials = _take_credentials(options, "sentinel_")
    if topology is Topology.CLUSTER and options.get("db"):
        raise ValueError("a Cluster has no databases but 0")
    _check_options(options)
    return Endpoint(
        url,
        setting,
        topology,
        seeds,
        service,
        server_options=options,
        credentials=credentials,
        sentinel_credentials=sentinel_credentials,
    )


def _read_seeds(url: str, topology: Topology) -> tuple[tuple[Address, ...], str, str]:
    """Addresses and service of a URL with several hosts, and the URL of a single server that says the rest."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    name = unquote(parts.path.strip("/"))
    if topology is Topology.SENTINEL and not name:
        raise ValueError("name the service, as in redis+sentinel://host:26379/service")
    port = SENTINEL_PORT if topology is Topology.SENTINEL else 6379
    seeds = []
    for host in hosts.split(","):
        one = urlsplit(f"//{host}")
        if not one.hostname:
            raise ValueError("name the hosts as host:port,host:port")
        seeds.append(Address(unquote(one.hostname), one.port or port))
    path = "" if topology is Topology.SENTINEL else parts.path
    base = parts.scheme.partition("+")[0]
    single = f"{base}://{user}{at}{hosts.split(',')[0]}{path}?{parts.query}"
    return tuple(seeds), name, single


def _take_credentials(options: dict[str, Any], prefix: str) -> CredentialProvider | None:
    username = options.pop(f"{prefix}username", None)
    password = options.pop(f"{prefix}password", None)
    if username or password:
        return UsernamePasswordCredentialProvider(username, password)
    return None


def _check_options(options: Mapping[str, Any]) -> None:
    """Say what of the URL's options cannot be used."""
    kind = options.get("connection_class", Connection)
    encrypted = issubclass(kind, SSLConnection)
    for name in options:
        if name.startswith("ssl_") and not encrypted:
            raise ValueError(f"{name} needs rediss://")
    for name in _FILES:
        if name in options:
            try:
                with open(options[name], "rb"):
                    pass
            except OSError as error:
                raise ValueError(f"{name}={options[name]!r}: {error.strerror}") from None
    kind(**{name: value for name, value in options.items() if name not in _OF_THE_POOL}, protocol=2)


_OF_THE_POOL = {"connection_class", "max_connections", "timeout"}
