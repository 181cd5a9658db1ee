"""Which path a request asks for, wherever the application is mounted and whatever came in between.

Names in a path may hold any byte, so routes match the path as it was sent, still encoded. The address as it was sent
(``raw_path``) stays as it is when a mount, a proxy's prefix or a middleware changes the path, which is decoded. So the
path says what is asked for, and the end of the address that says the same says it exactly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote, unquote_to_bytes

from starlette.types import Scope

_ABSOLUTE = re.compile(r"^https?://[^/]*", re.IGNORECASE)
"""What stands before the path where a proxy sends the address whole."""


def asked_path(scope: Scope, prefix: str) -> str:
    """The path below the place where the application stands, still encoded.

    Args:
        scope: of the request.
        prefix: what every path of the application begins with, but for ``/``.
    """
    path = _below_mount(scope, prefix)
    raw = (scope.get("raw_path") or b"").partition(b"?")[0]  # some servers leave the query in it
    sent = _ABSOLUTE.sub("", raw.decode("latin-1"))
    for start in (found.start() for found in re.finditer("/", sent)):
        if _ascii(unquote_to_bytes(sent[start:])) == _ascii(path.encode("utf-8", "surrogatepass")):
            return sent[start:]
    return quote(path.encode("utf-8", "surrogateescape"))


def _below_mount(scope: Scope, prefix: str) -> str:
    candidates = [*_candidates(scope)]
    for path in candidates:
        if path == "/" or path.startswith(prefix):
            return path
    return candidates[0]


def _candidates(scope: Scope) -> Iterator[str]:
    """The path without the root path; without the end of it, where a proxy has cut off the rest; and as it is."""
    path = _ABSOLUTE.sub("", scope["path"])
    root = scope.get("root_path", "").rstrip("/")
    for start in (found.start() for found in re.finditer("/", root)):
        end = root[start:]
        if path == end or path.startswith(f"{end}/"):
            yield path[len(end) :] or "/"
    yield path


def _ascii(text: bytes) -> bytes:
    # Servers differ in how they decode bytes that are no UTF-8, so only the other ones are compared.
    return bytes(byte for byte in text if byte < 0x80)
