"""Options of a Redis URL: which are honoured, which are ignored, and what each may say.

A URL is often shared with other programs, whose options are none of ours. An option that says how a program talks to
Redis is ignored: jobcache has a way of its own. One that nobody knows is refused, since it may be misspelt.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any

IGNORED = frozenset(
    {
        "decode_responses",
        "driver_info",
        "encoding",
        "encoding_errors",
        "health_check_interval",
        "legacy_responses",
        "lib_name",
        "lib_version",
        "maint_notifications_config",
        "protocol",
        "retry",
        "retry_on_error",
        "retry_on_timeout",
        "single_connection_client",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_keepalive_options",
        "socket_read_size",
        "socket_timeout",
        "socket_type",
        "timeout",
    }
)
"""Options of redis-py and of libraries on top of it. jobcache has its own deadline, keepalive, retries and encoding."""

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_CERT_REQS = ("none", "optional", "required")
_MIN_VERSIONS = {
    "tlsv1.2": ssl.TLSVersion.TLSv1_2,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "771": ssl.TLSVersion.TLSv1_2,
    "tlsv1.3": ssl.TLSVersion.TLSv1_3,
    "1.3": ssl.TLSVersion.TLSv1_3,
    "772": ssl.TLSVersion.TLSv1_3,
}


def read_options(query: Mapping[str, str], *, encrypted: bool, sentinel: bool) -> dict[str, Any]:
    """The options that are honoured, in redis-py's words.

    Args:
        query: names and values as the URL has them.
        encrypted: whether the URL asks for TLS.
        sentinel: whether it leads to Sentinels.

    Raises:
        ValueError: one is not known, or says what cannot be done; the message names it.
    """
    options: dict[str, Any] = {}
    for name, text in query.items():
        if name in IGNORED:
            continue
        read = _HONOURED.get(name)
        if read is None:
            raise ValueError(f"option {name!r} is not known")
        if name.startswith("sentinel_") and not sentinel:
            raise ValueError(f"option {name!r} needs redis+sentinel://")
        try:
            options[name] = read(text)
        except ValueError as error:
            shown = "" if "password" in name else f"={text!r}"
            raise ValueError(f"{name}{shown}: {error}") from None
    if options.pop("ssl", encrypted) is not encrypted:
        raise ValueError(
            "ssl: the scheme says whether TLS is used: rediss:// for yes, redis:// for no"
        )
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    if tls and not encrypted:
        raise ValueError(f"{next(iter(tls))} needs rediss://")
    if tls:
        _check_tls(tls)
        if tls.get("ssl_cert_reqs") == "none":
            options["ssl_check_hostname"] = False
    return options


def _check_tls(options: Mapping[str, Any]) -> None:
    """Do with the options what a connection does, so that what is wrong shows at once."""
    if options.get("ssl_cert_reqs") == "none" and options.get("ssl_check_hostname"):
        raise ValueError("ssl_check_hostname needs ssl_cert_reqs=required")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusted = {
        "cafile": options.get("ssl_ca_certs"),
        "capath": options.get("ssl_ca_path"),
        "cadata": options.get("ssl_ca_data"),
    }
    certificate, key = options.get("ssl_certfile"), options.get("ssl_keyfile")
    if key and not certificate:
        raise ValueError("ssl_keyfile needs ssl_certfile")
    try:
        if any(trusted.values()):
            context.load_verify_locations(**trusted)
        if certificate:
            context.load_cert_chain(certificate, key, options.get("ssl_password") or "")
        if ciphers := options.get("ssl_ciphers"):
            context.set_ciphers(ciphers)
    except OSError as error:  # SSLError is one
        raise ValueError(f"{', '.join(options)}: {error.strerror or error}") from None


def _text(value: str) -> str | None:
    return value or None


def _client_name(value: str) -> str | None:
    if not all("!" <= sign <= "~" for sign in value):
        raise ValueError("use letters, digits and signs without blanks")
    return value or None


def _whole(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise ValueError("use a whole number from 0")
    return int(value)


def _connections(value: str) -> int:
    size = _whole(value)
    if size < 1:
        raise ValueError("use a whole number from 1")
    return size


def _yes_or_no(value: str) -> bool:
    if value.lower() not in (*_TRUE, *_FALSE):
        raise ValueError("use true or false")
    return value.lower() in _TRUE


def _file(value: str) -> str:
    try:
        with open(value, "rb"):
            return value
    except OSError as error:
        raise ValueError(error.strerror) from None


def _directory(value: str) -> str:
    if not os.path.isdir(value):
        raise ValueError("no such directory")
    return value


def _cert_reqs(value: str) -> str:
    word = value.lower().removeprefix("cert_")
    if word not in _CERT_REQS:
        raise ValueError(f"use one of {', '.join(_CERT_REQS)}")
    return word


def _min_version(value: str) -> ssl.TLSVersion:
    version = _MIN_VERSIONS.get(value.lower().replace("_", "."))
    if version is None:
        raise ValueError("use TLSv1.2 or TLSv1.3")
    return version


_HONOURED: Mapping[str, Callable[[str], Any]] = {
    "client_name": _client_name,
    "db": _whole,
    "max_connections": _connections,
    "password": _text,
    "sentinel_password": _text,
    "sentinel_username": _text,
    "ssl": _yes_or_no,
    "ssl_ca_certs": _file,
    "ssl_ca_data": _text,
    "ssl_ca_path": _directory,
    "ssl_cert_reqs": _cert_reqs,
    "ssl_certfile": _file,
    "ssl_check_hostname": _yes_or_no,
    "ssl_ciphers": _text,
    "ssl_keyfile": _file,
    "ssl_min_version": _min_version,
    "ssl_password": _text,
    "username": _text,
}

OPTIONS = (*sorted(_HONOURED), *sorted(IGNORED))
"""Every option that a URL may have."""
