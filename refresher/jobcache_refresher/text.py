"""Names of the tree in messages for people."""

from __future__ import annotations


def shown(path: bytes) -> str:
    """A path as a log may hold it, whatever bytes it is made of."""
    return ascii(path.decode("utf-8", "backslashreplace"))
