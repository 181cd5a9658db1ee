"""How much of the tree a scan looks at."""

from __future__ import annotations

from enum import IntEnum


class Scope(IntEnum):
    """From little to much."""

    HINTS = 0
    """Only the paths that somebody pointed at."""
    POLL = 1
    """What the schedule says is due."""
    RELIST = 2
    """Everything."""
