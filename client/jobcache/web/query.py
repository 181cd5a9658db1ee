"""What a request asks for: names in its path, parameters in its query string. Either may hold any byte."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from jobcache.queries.filters import Time, read_time

T = TypeVar("T")


class BadParameter(Exception):
    """A query parameter cannot be used; the message names the parameter and the value."""


class Query:
    """The parameters of a query string. An empty value counts as none; of several, the last, if but one is meant."""

    def __init__(self, request: Request) -> None:
        parts = request.scope["query_string"].split(b"&")
        pairs = (part.partition(b"=") for part in parts)
        self._values: dict[str, list[str]] = {}
        for name, _, value in pairs:
            values = self._values.setdefault(_decode(name.replace(b"+", b" ")), [])
            values.append(_decode(value.replace(b"+", b" ")))

    def text(self, name: str) -> str | None:
        """A value as it is."""
        return self._values.get(name, [""])[-1] or None

    def texts(self, name: str) -> list[str] | None:
        """The values of a parameter that may be repeated."""
        return [value for value in self._values.get(name, ()) if value] or None

    def time(self, name: str) -> Time:
        """``24h``, which is before the last scan, or an ISO time."""
        return self.checked(name, partial(read_time, name))

    def checked(self, name: str, read: Callable[[str], T]) -> T | None:
        """A value as ``read`` understands it, which raises ``ValueError`` for what it does not."""
        text = self.text(name)
        try:
            return None if text is None else read(text)
        except ValueError as error:
            raise BadParameter(str(error)) from None

    def count(self, name: str, default: int, *, least: int = 0, most: int | None = None) -> int:
        """A whole number within bounds."""
        text = self.text(name)
        if text is None:
            return default
        number = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else -1
        if number < least or (most is not None and number > most):
            bounds = f"from {least}" + ("" if most is None else f" to {most}")
            raise BadParameter(f"{name}={text!r}: use a whole number {bounds}")
        return number

    def amount(self, name: str, default: float) -> float:
        """A number from 0."""
        text = self.text(name)
        try:
            number = default if text is None else float(text)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            raise BadParameter(f"{name}={text!r}: use a number from 0")
        return number


def path_names(request: Request) -> list[str]:
    """The names in a path that was routed as it was sent."""
    return [_decode(name.encode("latin-1")) for name in request.path_params.values()]


def _decode(encoded: bytes) -> str:
    # Not decode_name: a link holds a name as an answer gave it, or the bytes of its directory. Calls take both.
    return unquote_to_bytes(encoded).decode("utf-8", "surrogateescape")
