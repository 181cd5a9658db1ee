"""What is true: which jobs are on disk since when, and when refreshers were hindered from saying so.

Whoever removes a job says so before, whoever writes one says so after: what the world holds to be on disk, is.
Times are wall times in epoch seconds, as the server's are.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field

from tests.faults.oracle.faults import LOSSES, READER_FAULTS
from tests.faults.oracle.timing import Timing
from tests.trees import Names

REBUILDING = 15.0
"""Seconds before a torn write within which a loss of data may have had the torn file read in a rebuild."""


@dataclass(slots=True)
class IndexedFields:
    """A job on disk."""

    since: float
    """When it became whole; after a loss of data during a rewrite, when the rewrite ended."""
    torn_since: float | None = None
    """When the rewrite under way began."""


@dataclass(slots=True)
class Absence:
    """A time without the job on disk."""

    begin: float
    end: float = math.inf


@dataclass(slots=True)
class Hindrance:
    """A time in which refreshers need not keep up."""

    kind: str
    begin: float
    end: float = math.inf

    def over(self, aftermath: float) -> None:
        """The fault ended; its aftermath begins."""
        self.end = time.time() + aftermath


@dataclass(slots=True)
class World:
    """The truth, for any thread."""

    timing: Timing
    _jobs: dict[Names, IndexedFields] = field(default_factory=dict)
    _absences: dict[Names, list[Absence]] = field(default_factory=dict)
    _dismissed: dict[Names, float] = field(default_factory=dict)
    _hindrances: list[Hindrance] = field(default_factory=list)
    _losses: list[tuple[float, str]] = field(default_factory=list)
    _client_deletions: set[Names] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    # The producer

    def appeared(self, names: Names) -> None:
        """A job was written whole where there was none."""
        with self._lock:
            now = time.time()
            self._jobs[names] = IndexedFields(now)
            self._dismissed.pop(names, None)
            absences = self._absences.setdefault(names, [Absence(-math.inf)])
            absences[-1].end = now

    def emerging(self, names: Names) -> None:
        """Something begins to be written where there is no job."""
        with self._lock:
            self._dismissed.pop(names, None)

    def tearing(self, names: Names) -> None:
        """A rewrite begins."""
        with self._lock:
            self._jobs[names].torn_since = time.time()

    def repaired(self, names: Names) -> None:
        """The rewrite ended."""
        with self._lock:
            standing = self._jobs.get(names)
            if standing is None or standing.torn_since is None:
                return
            if self._lost_since(standing.torn_since - REBUILDING):
                self._jobs[names] = IndexedFields(time.time())
            else:
                standing.torn_since = None

    def vanishing(self, names: Names) -> None:
        """A job is about to be removed."""
        with self._lock:
            del self._jobs[names]
            self._absences[names].append(Absence(time.time()))

    def names(self) -> list[Names]:
        """The jobs on disk, in order."""
        with self._lock:
            return sorted(self._jobs)

    def is_torn(self, names: Names) -> bool:
        """Whether a rewrite is under way."""
        with self._lock:
            standing = self._jobs.get(names)
            return standing is not None and standing.torn_since is not None

    # Clients that delete

    def dismissing(self, names: Names) -> None:
        """A client is about to delete a job whose files were removed. If they are there again, it will return."""
        with self._lock:
            self._client_deletions.add(names)
            self._postpone(names, math.inf)

    def dismissed(self, names: Names, *, acknowledged: bool) -> None:
        """The client was told that the job is gone, or was told nothing."""
        with self._lock:
            self._postpone(names, time.time() + self.timing.settle)
            if acknowledged and names not in self._jobs:
                self._dismissed[names] = time.time()

    def _postpone(self, names: Names, since: float) -> None:
        if standing := self._jobs.get(names):
            self._jobs[names] = IndexedFields(since, standing.torn_since)
            self._absences[names].insert(-1, Absence(time.time(), time.time()))

    def must_be_away(self, began: float) -> dict[Names, float]:
        """Jobs that a read which began then must not show, unless they are written again meanwhile."""
        with self._lock:
            return {
                names: at
                for names, at in self._dismissed.items()
                if at < began and not self._lost_since(at - REBUILDING)
            }

    def was_client_deletion(self, names: Names) -> bool:
        """Whether a client may have deleted it."""
        with self._lock:
            return names in self._client_deletions

    def is_still_dismissed(self, names: Names, at: float) -> bool:
        """Whether nothing was written there since, and no data was lost."""
        with self._lock:
            same = self._dismissed.get(names) == at
            return same and not self._lost_since(at - REBUILDING)

    # Faults

    def hinder(self, kind: str) -> Hindrance:
        """A fault begins."""
        with self._lock:
            hindrance = Hindrance(kind, time.time())
            self._hindrances.append(hindrance)
            return hindrance

    def lost(self, kind: str) -> None:
        """The server lost data by a fault of some kind."""
        with self._lock:
            self._losses.append((time.time(), kind))

    def loss_explains(self, moment: float, kinds: frozenset[str] = LOSSES) -> bool:
        """Whether a loss of data may still show in a read that began then."""
        with self._lock:
            threshold = self.threshold(moment)
            return any(at >= threshold and kind in kinds for at, kind in self._losses)

    def touched_by(self, kinds: frozenset[str], begin: float, end: float) -> bool:
        """Whether a fault of one of some kinds, or its aftermath, was under way."""
        with self._lock:
            return any(
                one.kind in kinds and one.begin <= end and one.end >= begin
                for one in self._hindrances
            )

    def disbelieved_since(self, kinds: frozenset[str], at: float) -> float | None:
        """When a fault of some kinds began that refreshers must have noticed by then, if one was under way."""
        with self._lock:
            threshold = self.threshold(at, ignoring=kinds)
            begins = [
                one.begin
                for one in self._hindrances
                if one.kind in kinds and one.begin < threshold and at < one.end
            ]
        return min(begins, default=None)

    def agreed(self) -> None:
        """The view was found to equal the tree while nobody edits it: from now on every job must show."""
        with self._lock:
            for names, standing in self._jobs.items():
                if standing.since <= time.time():
                    self._jobs[names] = IndexedFields(-math.inf)
                    self._absences[names] = [Absence(-math.inf, -math.inf)]

    # What follows

    def threshold(self, now: float, ignoring: frozenset[str] = frozenset()) -> float:
        """The moment that lies the freshness bound of unhindered time before now."""
        ignored = ignoring | READER_FAULTS
        with self._lock:
            spans = [
                (one.begin, min(one.end, now))
                for one in self._hindrances
                if one.begin < now and one.kind not in ignored
            ]
        spans.sort(key=lambda span: span[1], reverse=True)
        needed, at = self.timing.visible, now
        for begin, end in spans:
            if end >= at:
                at = min(at, begin)
                continue
            if at - end >= needed:
                break
            needed -= at - end
            at = begin
        return at - needed

    def due(self, now: float) -> dict[Names, IndexedFields]:
        """The jobs that a ``ready`` view must show."""
        with self._lock:
            threshold = self.threshold(now)
            return {
                names: standing
                for names, standing in self._jobs.items()
                if standing.since <= threshold and not self._may_be_unread(standing)
            }

    def is_still_there(self, names: Names, standing: IndexedFields) -> bool:
        """Whether the job has been there ever since."""
        with self._lock:
            return self._jobs.get(names) is standing and not self._may_be_unread(standing)

    def was_away(self, names: Names, at: float) -> bool:
        """Whether a deletion at a moment follows from what was on disk before it."""
        with self._lock:
            threshold = self.threshold(at)
            absences = self._absences.get(names, [])
            return any(one.begin <= at + 0.002 and one.end >= threshold for one in absences)

    def _may_be_unread(self, standing: IndexedFields) -> bool:
        torn = standing.torn_since
        return torn is not None and self._lost_since(torn - REBUILDING)

    def _lost_since(self, moment: float) -> bool:
        return any(at >= moment for at, _ in self._losses)
