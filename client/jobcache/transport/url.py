"""The text of a Redis URL, taken apart. Pure; no error holds a piece of a password.

Programs write passwords into URLs without percent-encoding them. So a URL has one reading or none: user and password
end at the last ``@`` before the first ``/``, ``?`` or ``#``, and no ``@`` may follow. Else a piece of a password that
holds one of these signs could be taken for the name of a host, and be sent to a name server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import unquote

from jobcache.transport.route import Address

REDIS_PORT, SENTINEL_PORT = 6379, 26379

_ENCRYPTED = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
_HOST = re.compile(r"[A-Za-z0-9_.-]+")
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\](?::(\d+))?")
_PASSWORD_QUERY = re.compile(r"([?&][a-z_]*password=).*", re.IGNORECASE | re.DOTALL)
_ONE_HOST = r"(\[[^\]/?#]*\]|[^:,/?#\[\]]*)(:\d*)?"
_HOSTS_ONLY = re.compile(rf"{_ONE_HOST}(,{_ONE_HOST})*([/?#].*)?", re.DOTALL)

USAGE = (
    "use a URL like redis://, rediss://, valkey://, valkeys://, unix://, redis+sentinel:// or "
    "redis+cluster://"
)


class Topology(Enum):
    """What a URL leads to: one server, or those who know which server to talk to."""

    SERVER = ""
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """What a URL says. Its ``repr`` shows no password."""

    topology: Topology
    encrypted: bool
    username: str | None
    password: str | None = field(repr=False)
    hosts: tuple[Address, ...]
    """The server, the Sentinels, or some nodes of the Cluster; empty for a socket."""
    socket: str
    """Path of a socket on this machine; empty for none."""
    path: tuple[str, ...]
    """The parts of the path, decoded: a database, or a service and a database."""
    query: Mapping[str, str] = field(repr=False)
    """Options, as they are written. Of one that stands twice, the first counts."""

    @classmethod
    def read(cls, url: str) -> RedisUrl:
        """Take a URL apart.

        Raises:
            ValueError: it is none, or has more than one reading.
        """
        scheme, separator, rest = url.partition("://")
        base, plus, kind = scheme.lower().partition("+")
        kinds = [one.value for one in Topology if one.value]
        if not separator or (base not in _ENCRYPTED and scheme.lower() != "unix"):
            raise ValueError(USAGE)
        if plus and kind not in kinds:
            raise ValueError(USAGE)
        topology = Topology(kind)
        end = min((at for sign in "/?#" if (at := rest.find(sign)) >= 0), default=len(rest))
        authority, tail = rest[:end], rest[end:]
        is_socket = base == "unix"
        if "#" in tail or ("@" in tail and (authority or not is_socket)):
            raise ValueError(
                "percent-encode '/', '?', '#' and '@' in the user and in the password, and '@' and '#' behind the host"
            )
        user, _, hosts = authority.rpartition("@")
        if is_socket and hosts:
            raise ValueError("write three slashes before the path of a socket")
        path, _, query = tail.partition("?")
        name, _, password = user.partition(":")
        return cls(
            topology,
            _ENCRYPTED.get(base, False),
            unquote(name) or None,
            unquote(password) or None,
            () if is_socket else _read_hosts(hosts, topology),
            unquote(path) if is_socket else "",
            () if is_socket else tuple(unquote(part) for part in path.split("/") if part),
            _read_query(query),
        )


def mask_password(url: str) -> str:
    """The URL as it may be logged, however malformed it is."""
    url = _PASSWORD_QUERY.sub(r"\1***", url)
    before, at, host = url.rpartition("@")
    if not at:
        scheme, slashes, rest = url.rpartition("://") if url.count("://") == 1 else ("", "", url)
        # Behind a colon stands a port, or a password whose host was forgotten.
        return url if _HOSTS_ONLY.fullmatch(rest) else f"{scheme}{slashes}***"
    scheme, slashes, user = (
        before.rpartition("://") if before.count("://") == 1 else ("", "", before)
    )
    name, colon, _ = user.partition(":")
    return f"{scheme}{slashes}{name}{':***' if colon else ''}{at}{host}"


def _read_hosts(text: str, topology: Topology) -> tuple[Address, ...]:
    if topology is Topology.SERVER:
        return (_read_host(text, REDIS_PORT),)
    if not all(text.split(",")):
        raise ValueError("name the hosts as host:port,host:port")
    port = SENTINEL_PORT if topology is Topology.SENTINEL else REDIS_PORT
    return tuple(_read_host(one, port) for one in text.split(","))


def _read_host(text: str, default_port: int) -> Address:
    bracketed = _BRACKETED.fullmatch(unquote(text))
    if bracketed:
        host, port = bracketed[1], bracketed[2]
    else:
        host, _, port = text.partition(":")
        host = _read_name(unquote(host) or "localhost")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ValueError("the port is no number from 1 to 65535")
    return Address(host, int(port) if port else default_port)


def _read_name(name: str) -> str:
    """A host's name, as name servers know it."""
    try:
        known = name.encode("idna").decode().lower()
    except UnicodeError:
        known = ""
    if not _HOST.fullmatch(known):
        raise ValueError(
            f"host {name!r}: use letters, digits, '-' and '.', at most 63 between two dots"
        )
    return known


def _read_query(text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in text.split("&"):
        name, _, value = part.partition("=")
        if name:
            options.setdefault(unquote(name), unquote(value))
    return options
