"""What is published, and what is expected in Redis. Pure bookkeeping for the one thread that refreshes.

A path is *published* when Redis holds its job at the revision of its record. Besides, a path may be in one state of
``PathState``. It is in one at most: whatever puts it into another takes it out of the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from jobcache_refresher.expected import ExpectedSizes
from jobcache_refresher.records import Fields, Record, Records


class PathState(Enum):
    """What is still to be done about a path."""

    PENDING = "pending"
    """Its file was read; what was read is not in Redis yet."""
    UNREAD = "unread"
    """Its file was read, but that could not be published and was dropped: the file must be read again."""
    CONFLICT = "conflict"
    """A compare-and-set failed: somebody else changed or deleted the job in Redis. Look at both sides again."""
    QUARANTINED = "quarantined"
    """A client deleted the job. Its files do not count until a moment when the filesystem shows the truth again."""
    REMEMBERED = "remembered"
    """An earlier epoch held the job, and the present one does not yet."""


class Ledger:
    """Published jobs by path, and the paths about which something is still to be done."""

    def __init__(self) -> None:
        self.records: Records = {}
        """Every published job. To be read only; the methods keep the expected cardinalities in step with it."""
        self.expected = ExpectedSizes()
        """How many members each index must have."""
        self.is_current = False
        """Whether the records are those of the last completed scan, and nobody else can have led since."""
        self._states: dict[bytes, PathState] = {}
        self._paths: dict[PathState, dict[bytes, Any]] = {state: {} for state in PathState}

    def state_of(self, path: bytes) -> PathState | None:
        """What is to be done about a path; None for nothing."""
        return self._states.get(path)

    # Published

    def adopt(self, records: Records) -> None:
        """Take over what Redis holds. Nothing of an earlier epoch is remembered any more."""
        self.take_all(PathState.REMEMBERED)
        self.expected.forget()
        self.records = records

    def publish(self, path: bytes, record: Record) -> None:
        """Redis holds a job at a revision: whatever was to be done about the path is done."""
        self._leave(path)
        known = self.records.get(path)
        self.expected.move(path, known.fields if known else None, record.fields)
        self.records[path] = record

    def drop(self, path: bytes) -> None:
        """Redis does not hold a job any more."""
        self._leave(path)
        known = self.records.pop(path, None)
        if known is not None:
            self.expected.move(path, known.fields, None)

    def lose_epoch(self) -> None:
        """The epoch is lost: nothing counts as published, and all that was is remembered."""
        for path, record in self.records.items():
            self._enter(path, PathState.REMEMBERED, record.fields)
        self.records = {}
        self.expected.forget()

    # To be done

    def expect(self, readings: Mapping[bytes, Fields]) -> None:
        """Runs were read. What was read of a quarantined run does not count."""
        for path, fields in readings.items():
            if self._states.get(path) is not PathState.QUARANTINED:
                self._enter(path, PathState.PENDING, fields)

    def drop_pending(self, others: Iterable[bytes] = ()) -> None:
        """What was read cannot be published: nothing of it is kept, but which files to read again."""
        for path in [*self._paths[PathState.PENDING], *others]:
            if self._states.get(path) is not PathState.QUARANTINED:
                self._enter(path, PathState.UNREAD, None)

    def mark_conflict(self, path: bytes) -> None:
        """Somebody else changed or deleted a job."""
        self._enter(path, PathState.CONFLICT, None)

    def quarantine(self, path: bytes, until: float) -> None:
        """A client deleted a job: its files count again from a monotonic time, in seconds."""
        self.drop(path)
        self._enter(path, PathState.QUARANTINED, until)

    def end_quarantines(self, now: float) -> frozenset[bytes]:
        """Paths whose files count again at a monotonic time."""
        quarantined = self._paths[PathState.QUARANTINED]
        over = frozenset(path for path, until in quarantined.items() if until <= now)
        self.settle(over)
        return over

    def count(self, state: PathState) -> int:
        """How many paths are in a state."""
        return len(self._paths[state])

    def items(self, state: PathState) -> list[tuple[bytes, Any]]:
        """Paths in a state, each with what was read (pending, remembered), or until when (quarantined)."""
        return list(self._paths[state].items())

    def take_all(self, state: PathState) -> list[bytes]:
        """Take every path out of a state."""
        paths = list(self._paths[state])
        self.settle(paths)
        return paths

    def settle(self, paths: Iterable[bytes]) -> None:
        """Nothing is to be done about some paths any more."""
        for path in paths:
            self._leave(path)

    def _enter(self, path: bytes, state: PathState, what: Any) -> None:
        self._leave(path)
        self._states[path] = state
        self._paths[state][path] = what

    def _leave(self, path: bytes) -> None:
        state = self._states.pop(path, None)
        if state is not None:
            del self._paths[state][path]
