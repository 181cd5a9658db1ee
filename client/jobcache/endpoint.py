"""Which Redis, and how to talk to it: URLs, pools and deadlines."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from jobcache.errors import ConfigError

URL_VARIABLES = ("JOBCACHE_REDIS_URL", "REDIS_URL")
"""Where a URL is looked for when none is passed, in this order."""

_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}
_QUERY_PASSWORD = re.compile(r"([?&]password=)[^&#]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A checked Redis URL."""

    url: str
    setting: str
    """Where the URL came from: ``url`` or the name of a variable."""

    @classmethod
    def find(cls, url: str | None = None, environ: Mapping[str, str] = os.environ) -> Endpoint:
        """The URL passed, or the first one that the environment holds.

        Raises:
            ConfigError: there is none, or it cannot be used.
        """
        if url:
            return cls._checked(url, "url")
        for variable in URL_VARIABLES:
            if environ.get(variable):
                return cls._checked(environ[variable], variable)
        raise ConfigError(
            "no Redis URL: pass url=..., or set JOBCACHE_REDIS_URL, for example to redis://localhost:6379/0"
        )

    @classmethod
    def _checked(cls, url: str, setting: str) -> Endpoint:
        shown = mask_password(url)
        scheme = url.partition("://")[0].lower()
        if scheme not in _SCHEMES or "://" not in url:
            raise ConfigError(
                f"{setting}={shown}: use a URL like {', '.join(f'{one}://' for one in _SCHEMES)}"
            )
        known = _SCHEMES[scheme] + url[len(scheme) :]
        try:
            pool = ConnectionPool.from_url(known, protocol=2)
            pool.connection_class(**pool.connection_kwargs)
        except (ValueError, TypeError) as error:
            why = str(error)
            quoted = why.rpartition(" as ")[2].strip("'") if "cast" in why else ""
            if quoted not in url.rpartition("@")[2]:  # but in the password
                why = "percent-encode '/', '?', '#' and '@' in the password"
            raise ConfigError(f"{setting}={shown}: {why}") from None
        return cls(known, setting)

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return mask_password(self.url)

    def options(self, *, deadline: float, max_connections: int) -> dict[str, Any]:
        """Options of a pool whose every exchange ends within the deadline, in seconds.

        RESP2, since RESP3 is slower for pages of hashes and sends handshakes that servers refuse. One retry, for
        a pooled connection that the server has closed meanwhile; none after a time-out.
        """
        return {
            "protocol": 2,
            "max_connections": max_connections,
            "timeout": deadline / 2,
            "socket_connect_timeout": deadline / 2,
            "socket_timeout": deadline,
            "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            "client_name": "jobcache",
        }


def mask_password(url: str) -> str:
    """The URL as it may be logged, however malformed it is."""
    before, at, host = url.rpartition("@")
    scheme, slashes, user = (
        before.rpartition("://") if before.count("://") == 1 else ("", "", before)
    )
    name, colon, _ = user.partition(":")
    shown = f"{scheme}{slashes}{name}{':***' if colon else ''}{at}{host}"
    return _QUERY_PASSWORD.sub(r"\1***", shown)
