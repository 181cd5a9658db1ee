"""How much time an exchange has left. Without I/O."""

from __future__ import annotations

import math
import time

from jobcache.errors import ConfigError


class Budget:
    """Until when what is under way may take; whoever begins something else sets ``ends`` anew.

    Args:
        ends: end on the monotonic clock, in seconds; by default never, for a connection that waits in a pool.
    """

    __slots__ = ("ends",)

    def __init__(self, ends: float = math.inf) -> None:
        self.ends = ends

    @classmethod
    def of(cls, seconds: float) -> Budget:
        """One that begins now."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds that are left, more than none.

        Raises:
            TimeoutError: there are none.
        """
        left = self.ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("no time is left")
        return left


def check_deadline(seconds: float) -> float:
    """The deadline that a caller means.

    Raises:
        ConfigError: it is no time that could be kept.
    """
    if not 0 < seconds < math.inf:
        raise ConfigError(f"deadline={seconds}: use a number of seconds above 0")
    return seconds
