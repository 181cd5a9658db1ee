"""JSON that loses nothing the producer can write.

``json.dump`` writes ``NaN``, ``Infinity``, integers of any size and, for a string that holds one, a
lone surrogate. orjson, the fastest, refuses the first and the last and rounds the others to doubles. So a document of
the producer that has a long row of digits, or that orjson refuses, is read by pydantic's parser, or by the standard
library for what that refuses; and one of ours begins with a space, which JSON allows, when orjson would not give back
what was written.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from pydantic_core import PydanticSerializationError, from_json, to_json

from jobcache.ids import valid_text

MAX_DEPTH = 190
"""Deepest nesting of a document that is read. Every parser in use reaches further, with a page of jobs around it."""


_OUTLINE = bytes.maketrans(b"123456789{", b"000000000[")
"""Makes all digits and all openings alike, so that what a text must be looked through for is found fast."""
_LONG = b"0" * 19
"""An integer beyond 64 bits has at least so many digits."""


class Document(NamedTuple):
    """What a text of the producer says."""

    value: Any
    plain: bool
    """Whether orjson writes it, or any part of it, as it is."""


def parse(text: bytes) -> Any:
    """The value of ``read``."""
    return read(text).value


def read(text: bytes) -> Document:
    """Parse a document of the producer exactly.

    Raises:
        ValueError: it is not JSON, or nested deeper than ``MAX_DEPTH``.
    """
    outline = text.translate(_OUTLINE)
    document = None if _LONG in outline else _read_plainly(text)
    if document is None:
        document = Document(_read_exactly(text), plain=False)
    if outline.count(b"[") > MAX_DEPTH and _deeper_than(document.value, MAX_DEPTH):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    return document


def _read_plainly(text: bytes) -> Document | None:
    try:
        return Document(orjson.loads(text), plain=True)
    except ValueError:
        return None


def _read_exactly(text: bytes) -> Any:
    try:
        return from_json(text)
    except ValueError:
        try:
            return json.loads(text)
        except RecursionError:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None


def dumps(value: Any, *, plain: bool = False) -> bytes:
    """Write a document compactly, so that ``loads`` gives the same value back.

    ``plain`` says that it is known to be what orjson writes as it is.
    """
    try:
        text = orjson.dumps(value)
    except TypeError:  # a lone surrogate, or an integer beyond 64 bits
        return b" " + _dumps_exactly(value)
    if not plain and b"null" in text:  # which orjson writes for what is no number, too
        exact = _dumps_exactly(value)
        if b"NaN" in exact or b"Infinity" in exact:
            return b" " + exact
    # A copy: orjson's own result keeps the whole of its buffer, several times the text.
    return bytes(memoryview(text))


def loads(text: bytes) -> Any:
    """The value that ``dumps`` wrote.

    Raises:
        ValueError: it was something else.
    """
    return parse(text) if text[:1] == b" " else orjson.loads(text)


def loads_valid(text: bytes) -> Any:
    """The value that ``dumps`` wrote, as anything can write it again: every text in it is valid Unicode.

    Raises:
        ValueError: it was something else.
    """
    value = loads(text)
    return _with_valid_texts(value) if text[:1] == b" " else value


def _with_valid_texts(value: Any) -> Any:
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, list):
        return [_with_valid_texts(item) for item in value]
    if isinstance(value, dict):
        return {valid_text(key): _with_valid_texts(item) for key, item in value.items()}
    return value


def _dumps_exactly(value: Any) -> bytes:
    try:
        return to_json(value, inf_nan_mode="constants")
    except (PydanticSerializationError, ValueError):
        return json.dumps(value, separators=(",", ":")).encode()


def dumps_for_web(value: Any) -> bytes:
    """Write strict JSON for browsers and ``jq``: numbers that JSON lacks become ``null``.

    A lone surrogate is escaped, a time is text. A ``orjson.Fragment`` is text that is JSON already.
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
    if isinstance(value, orjson.Fragment):
        return orjson.loads(orjson.dumps(value))
    if isinstance(value, datetime):
        return value.isoformat()
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
