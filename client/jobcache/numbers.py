"""Numbers out of ``meta`` and the streams. A client may have written anything there, so nothing here raises."""

from __future__ import annotations

import re
from math import isfinite

_POSITION = re.compile(rb"([0-9]{1,20})-([0-9]{1,20})")
_LARGEST = (1 << 64) - 1


def read_int(raw: bytes | str | int | None) -> int | None:
    """A whole number; None when there is none."""
    try:
        return None if raw is None else int(raw)
    except ValueError:
        return None


def read_float(raw: bytes | str | float | None) -> float | None:
    """A finite number; None when there is none."""
    try:
        number = None if raw is None else float(raw)
    except ValueError:
        return None
    return number if number is not None and isfinite(number) else None


def read_position(raw: bytes | None) -> tuple[int, int] | None:
    """The id of an entry of a stream, in the order of the stream; None when it is none."""
    match = _POSITION.fullmatch(raw or b"")
    if match is None:
        return None
    position = int(match[1]), int(match[2])
    return position if max(position) <= _LARGEST else None


def place_in_stream(raw: bytes | None) -> tuple[int, int]:
    """What orders the ids of a stream's entries: as ``read_position``, and before all others what is none."""
    return read_position(raw) or (0, 0)
