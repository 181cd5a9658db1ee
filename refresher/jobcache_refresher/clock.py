"""Time as the refresher sees it; tests put another in its place."""

from __future__ import annotations

import time as system
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """A wall clock in epoch seconds, and a monotonic one in seconds."""

    time: Callable[[], float] = system.time
    monotonic: Callable[[], float] = system.monotonic
