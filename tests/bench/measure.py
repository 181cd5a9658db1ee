"""Timing, and what is made of the samples. Nothing here knows what is timed."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Clock = Callable[[], float]
"""A monotonic clock, in seconds."""

LEAST_SAMPLE = 20e-6
"""Seconds that one sample should last, so that the clock's own cost does not show."""
LEAST_ROUNDS = 3
"""Rounds that are taken however long they last."""
MOST_CALLS = 100_000
"""Calls that one sample repeats at most."""


class Timing(NamedTuple):
    """Seconds a call: the middle of the samples, and what 95 in 100 of them stay below."""

    median: float
    p95: float
    samples: int


def take_samples(
    call: Callable[[], object],
    *,
    repeat: int = 1,
    number: int = 1,
    clock: Clock = time.perf_counter,
) -> list[float]:
    """Time a call: `repeat` samples, each the seconds a call over `number` calls."""
    samples = []
    for _ in range(repeat):
        began = clock()
        for _ in range(number):
            call()
        samples.append((clock() - began) / number)
    return samples


def calls_for_sample(seconds: float) -> int:
    """How many calls of some seconds each make up one sample."""
    if seconds * MOST_CALLS <= LEAST_SAMPLE:
        return MOST_CALLS
    return max(1, math.ceil(LEAST_SAMPLE / seconds))


def summarize(samples: Sequence[float]) -> Timing:
    """The timing that samples show.

    Raises:
        ValueError: there are none.
    """
    if not samples:
        raise ValueError("no samples")
    rank = math.ceil(0.95 * len(samples)) - 1
    return Timing(statistics.median(samples), sorted(samples)[rank], len(samples))


def alternate(
    contestants: Mapping[str, Callable[[], Sequence[float]]],
    *,
    rounds: int,
    seconds: float = math.inf,
    warm_up: bool = True,
    clock: Clock = time.perf_counter,
) -> dict[str, Timing]:
    """Take samples of each contestant in turn, round after round, so that noise hits all of them.

    Args:
        contestants: each takes some samples when it is called.
        rounds: how many rounds count.
        seconds: after which no further round begins, once there are `LEAST_ROUNDS`.
        warm_up: whether a round that does not count comes first.
        clock: what the seconds are measured by.
    """
    if warm_up:
        for take in contestants.values():
            take()
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    began = clock()
    for done in range(rounds):
        if done >= LEAST_ROUNDS and clock() - began > seconds:
            break
        for name, take in contestants.items():
            samples[name] += take()
    return {name: summarize(taken) for name, taken in samples.items()}
