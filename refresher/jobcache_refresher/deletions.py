"""Which missing jobs may be deleted. Pure: it is told what a scan found and decides; it does no I/O.

A scan calls a job *gone* when two complete, error-free listings did not show it, and *vanishing* when at least one did
not. If too many jobs vanish at once, something is more likely wrong with the filesystem than with the jobs: then every
deletion is held until an operator releases it, or until nothing is missing any more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple


class Decision(NamedTuple):
    """What becomes of the jobs that a scan calls gone."""

    delete: Sequence[bytes]
    """Paths to delete now."""
    held: int
    """How many deletions wait for an operator."""


class DeletionPolicy:
    """Decides scan by scan, and remembers whether a hold is in force.

    Args:
        hold_fraction: share of the published jobs that may vanish at once.
        hold_minimum: number of jobs that may vanish at once in any case.
    """

    def __init__(self, hold_fraction: float, hold_minimum: int) -> None:
        self._fraction = hold_fraction
        self._minimum = hold_minimum
        self._is_holding = False
        self._deleted_on_hints = 0
        """Jobs deleted since the last scan that looked at more than hints."""

    def decide(
        self,
        gone: Sequence[bytes],
        *,
        vanishing: int,
        published: Collection[bytes],
        saw_all: bool,
        released: bool,
    ) -> Decision:
        """What may be deleted after a scan.

        Args:
            gone: paths whose absence was observed twice.
            vanishing: number of paths whose absence was observed at least once; ``gone`` included.
            published: paths of all published jobs.
            saw_all: whether the scan looked at more than hints.
            released: whether an operator released what is held.
        """
        held = self._count_held(gone, vanishing, published, saw_all=saw_all, released=released)
        if held:
            return Decision((), held)
        return Decision(gone if self._may_delete(len(gone), saw_all=saw_all) else (), 0)

    def _count_held(
        self,
        gone: Sequence[bytes],
        vanishing: int,
        published: Collection[bytes],
        *,
        saw_all: bool,
        released: bool,
    ) -> int:
        if released or (saw_all and not vanishing):
            self._is_holding = False
            return 0
        # A hold goes on when a part came back: if it ended then, the rest would be deleted. Jobs that were missed only
        # once count as well, since jobs that vanish at once may be noticed in two scans.
        if vanishing > max(self._minimum, self._fraction * len(published)):
            self._is_holding = True
        return sum(path in published for path in gone) if self._is_holding else 0

    def _may_delete(self, count: int, *, saw_all: bool) -> bool:
        """Hints show a mass deletion bit by bit: beyond a few jobs, a scan that sees everything must decide."""
        if saw_all:
            self._deleted_on_hints = 0
            return True
        if self._deleted_on_hints + count > self._minimum:
            return False
        self._deleted_on_hints += count
        return True
