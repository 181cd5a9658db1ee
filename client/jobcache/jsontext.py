"""JSON that loses nothing the producer can write.

``json.dump`` writes ``NaN``, ``Infinity``, integers of any size and, for a string that holds one, a
lone surrogate. orjson, the fastest, refuses the first and the last and rounds the others to doubles. So a document of
the producer is read by pydantic's parser, or by the standard library for what that refuses; and one of ours begins with
a space, which JSON allows, when orjson would not give back what was written.
"""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
from pydantic_core import PydanticSerializationError, from_json, to_json

MAX_DEPTH = 100
"""Deepest nesting of a document that is read. Every parser in use reaches further than this."""


def parse(text: bytes) -> Any:
    """Parse a document of the producer exactly.

    Raises:
        ValueError: it is not JSON, or nested deeper than ``MAX_DEPTH``.
    """
    try:
        value = from_json(text, cache_strings="keys")
    except ValueError:
        try:
            value = json.loads(text)
        except RecursionError:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    return value


def dumps(value: Any) -> bytes:
    """Write a document compactly, so that ``loads`` gives the same value back."""
    try:
        text = orjson.dumps(value)
    except TypeError:  # a lone surrogate, or an integer beyond 64 bits
        return b" " + _dumps_exactly(value)
    if b"null" in text:  # which orjson writes for what is no number, too
        exact = _dumps_exactly(value)
        # Single bytes first: they are found many times as fast.
        if (b"N" in exact and b"NaN" in exact) or (b"I" in exact and b"Infinity" in exact):
            return b" " + exact
    # A copy: orjson's own result keeps the whole of its buffer, several times the text.
    return bytes(memoryview(text))


def loads(text: bytes) -> Any:
    """The value that ``dumps`` wrote.

    Raises:
        ValueError: it was something else.
    """
    return parse(text) if text[:1] == b" " else orjson.loads(text)


def _dumps_exactly(value: Any) -> bytes:
    try:
        return to_json(value, inf_nan_mode="constants")
    except (PydanticSerializationError, ValueError):
        return json.dumps(value, separators=(",", ":")).encode()


def dumps_for_web(value: Any) -> bytes:
    """Write strict JSON for browsers and ``jq``: numbers that JSON lacks become ``null``.

    A byte of a file name that is no UTF-8 is escaped as the lone surrogate that Python uses for it.
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate, or an integer beyond 64 bits
        return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [
            child
            for node in layer
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not layer:
            return False
    return any(isinstance(node, dict | list) for node in layer)
