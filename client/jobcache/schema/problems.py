"""The hash ``problems``: what should be read of the tree and is not, path by path, as JSON."""

from __future__ import annotations

import orjson

from jobcache.ids import decode_name, valid_text
from jobcache.models import Problem
from jobcache.numbers import read_float
from jobcache.times import from_epoch

PROBLEMS_CAP = 1_000
"""Problems that Redis holds at most."""


def encode_problem(reason: str, since: float) -> bytes:
    """What the hash says of one path.

    Args:
        reason: why it is not read, valid Unicode.
        since: when it was first seen, in epoch seconds.
    """
    return orjson.dumps({"reason": reason, "since": since})


def decode_problem(path: bytes, raw: bytes) -> Problem | None:
    """One entry of the hash; None if anybody else wrote it."""
    try:
        entry = orjson.loads(raw)
        reason, since = entry["reason"], from_epoch(read_float(entry["since"]))
    except (ValueError, TypeError, KeyError):
        return None
    if not isinstance(reason, str) or since is None:
        return None
    return Problem(path=decode_name(path), reason=valid_text(reason), since=since)
