"""The two streams: the change feed, which readers follow, and requests, by which clients ask the refresher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CHANGES_CAP = 10_000
"""Entries that the change feed keeps, about."""
REQUESTS_CAP = 1_000
"""Entries that the stream of requests keeps, about."""


FEED_CHANGE = b"change"
"""Field of the change feed: what happened, a value of ``ChangeKind``, or ``begin`` for the first entry of an epoch."""
FEED_ID = b"id"
"""Field of the change feed: the job's path; absent in the first entry of an epoch."""

REQUEST = b"request"
"""Field of a request: what is asked for."""
REQUEST_ID = b"id"
"""Field of a request: the path of the job that is meant; absent or empty where none is."""

INVALIDATE = b"invalidate"
"""Request: read a run again, whatever its fingerprint, or discover it."""
DELETE = b"delete"
"""Request: a client deleted a job."""
REFRESH = b"refresh"
"""Request: look at everything."""
AUDIT = b"audit"
"""Request: compare all of Redis with what was published."""


def request_command(key: bytes, request: bytes, path: bytes = b"") -> tuple[bytes | str | int, ...]:
    """The command that asks the refresher for something.

    Args:
        key: the stream of requests.
        request: what is asked for.
        path: the job that is meant; empty for none.
    """
    cap = (b"MAXLEN", b"~", REQUESTS_CAP)
    return (b"XADD", key, *cap, b"*", REQUEST, request, REQUEST_ID, path)


def newest_command(key: bytes) -> tuple[bytes | int, ...]:
    """The command that reads the newest entry of a stream."""
    return (b"XREVRANGE", key, b"+", b"-", b"COUNT", 1)


def newest_position(entries: Sequence[Any]) -> bytes:
    """The position in its reply; ``0-0`` when the stream is empty."""
    return bytes(entries[0][0]) if entries else b"0-0"
