"""State that belongs to one process, so that a fork does not share it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Something that every process makes for itself when it first asks for it.

    A child made by fork finds its parent's, with locks that other threads may have held and connections that are the
    parent's to use. It makes its own, also its locks: a worker may have patched ``threading`` since the fork.

    Args:
        make: makes it.
        abandon: lets go, in a child, of the parent's without disturbing it.
    """

    def __init__(self, make: Callable[[], T], abandon: Callable[[T], None]) -> None:
        self._make = make
        self._abandon = abandon
        self._by_pid: dict[int, T] = {}

    def get(self) -> T:
        """This process's."""
        pid = os.getpid()
        mine = self._by_pid.get(pid)
        if mine is None:
            mine = self._by_pid.setdefault(pid, self._make())  # one, whichever thread is first
            for other in [one for one in self._by_pid if one != pid]:
                inherited = self._by_pid.pop(other, None)
                if inherited is not None:
                    self._abandon(inherited)
        return mine
