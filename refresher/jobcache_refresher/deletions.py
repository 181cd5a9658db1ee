"""Which missing jobs may be deleted. Pure: it is told what a scan found and decides; it does no I/O.

A job is deleted when two complete, error-free listings did not show it. Three more rules protect against a filesystem
that shows too little:

1. **Moved jobs go.** A job that is published elsewhere now (``moves`` says when that counts) has not been lost. It
   neither waits nor counts.
2. **Many at once are held.** If more jobs are lost than ``hold_fraction`` of all, and more than ``hold_minimum``, none
   of them is deleted until an operator releases them, or they are back. Jobs that were missed only once count as well,
   since jobs that vanish at once may be noticed in two scans. So do the jobs that were deleted within the last hour
   (``WINDOW``): a mass deletion may come in waves. A new job makes good for the oldest of these, so a tree in which
   jobs come and go does not count as one that shrinks. What clients ask to delete does not count, also if a scan was
   faster than the client. A release begins the hour anew.
3. **A hold is of those jobs.** It goes on when a part of them came back. If whole projects and groups are more than
   the limit by themselves, single runs and names that vanish beside them are not held. While a hold is in force,
   single runs and names may go as before, up to ``hold_minimum`` within the hour; a project or group that vanishes
   joins the hold.

Hints show a mass deletion bit by bit. So a scan of hints begins no hold, and until the next scan that looks at more,
hints delete no more than ``hold_minimum`` jobs.

A new leader does not know what the one before it deleted within the hour. If that one held deletions, what is missing
in the first scan is held again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from jobcache_refresher.clock import Clock
from jobcache_refresher.moves import Moves
from jobcache_refresher.records import Records
from jobcache_refresher.scan.absences import Absence
from jobcache_refresher.settings import Settings
from jobcache_refresher.text import shown

WINDOW = 3600.0
"""Seconds for which a deletion counts as part of what vanishes at once."""

WHOLE_DEPTH = 2
"""Down to this depth, that of groups, a missing directory is held whole."""


class Hold(NamedTuple):
    """Deletions that wait for an operator."""

    jobs: int
    """How many."""
    since: float
    """Monotonic time when the hold began."""
    directory: bytes
    """The deepest path at or above everything that is held; empty for the status directory."""

    def describe(self, published: int, clock: Clock) -> str:
        """One line for operators: how many of how many jobs, where, and since when by the wall clock."""
        began = datetime.fromtimestamp(clock.time() - (clock.monotonic() - self.since), UTC)
        place = f"below {shown(self.directory)}" if self.directory else "in several projects"
        return (
            f"{self.jobs} of {published} jobs vanished at once: their deletion waits for "
            f"'jobcache-refresher release' ({place}, since {began:%Y-%m-%d %H:%M} UTC)"
        )


class Decision(NamedTuple):
    """What becomes of the jobs that a scan did not find."""

    delete: Sequence[bytes]
    """Paths to delete now; some may not be published."""
    hold: Hold | None
    """What waits, if anything does."""


class DeletionPolicy:
    """Decides scan by scan, and remembers what is held and what was deleted lately.

    Args:
        hold_fraction: share of the published jobs that may vanish at once.
        hold_minimum: number of jobs that may vanish at once in any case.
        moves: tells which jobs moved.
        holds_on: whether the leader before this one held deletions: what the first scan misses is held then.
    """

    def __init__(
        self, hold_fraction: float, hold_minimum: int, moves: Moves, *, holds_on: bool = False
    ) -> None:
        self._fraction = hold_fraction
        self._minimum = hold_minimum
        self._moves = moves
        self._held: dict[bytes, bytes] = {}
        """Jobs whose deletion waits, each with the topmost path that is missing."""
        self._held_since = 0.0
        """Monotonic time when that began."""
        self._holds_on = holds_on
        """Whether the leader before this one held deletions, and no scan told yet of which jobs."""
        self._released: set[bytes] = set()
        """Jobs that an operator released, and that are missing still."""
        self._deleted: dict[bytes, float] = {}
        """Jobs that were deleted within the window and not made good for: when, oldest first."""
        self._deleted_on_hints = 0
        """Jobs deleted since the last scan that looked at more than hints."""

    def note_new(self, path: bytes, met_at: float) -> None:
        """A job was published where none was, by a scan that began at a monotonic time."""
        self._moves.note_new(path, met_at)

    def note_asked(self, path: bytes) -> None:
        """A client asked to delete a job: it does not count as vanished."""
        self._deleted.pop(path, None)

    def decide(
        self,
        missing: Mapping[bytes, Absence],
        records: Records,
        *,
        began: float,
        saw_all: bool,
        released: bool,
    ) -> Decision:
        """What may be deleted after a scan.

        Args:
            missing: the runs that it did not find, those missed once included.
            records: all published jobs.
            began: monotonic time when it began.
            saw_all: whether it looked at more than hints.
            released: whether an operator released what is held.
        """
        moved, new = self._moves.find(missing, records, began=began, saw_all=saw_all)
        self._make_good(new, began)
        if released:
            self._release(missing)
        free = moved | self._released
        lost = {
            path: absence.top
            for path, absence in missing.items()
            if path in records and path not in free
        }
        if saw_all:
            self._released &= missing.keys()
            self._held = {path: top for path, top in lost.items() if path in self._held}
            self._deleted_on_hints = 0
        kept = self._to_keep(lost, missing, len(records) - len(moved), saw_all=saw_all)
        if saw_all and kept:
            self._held_since = self._held_since if self._held else began
            self._held.update(kept)
        delete = [
            path
            for path, absence in missing.items()
            if absence.confirmed and path not in self._held and path not in kept
        ]
        self._note_deleted([path for path in delete if path in lost], began, saw_all=saw_all)
        return Decision(delete, self._describe_hold())

    def _to_keep(
        self,
        lost: Mapping[bytes, bytes],
        missing: Mapping[bytes, Absence],
        published: int,
        *,
        saw_all: bool,
    ) -> Mapping[bytes, bytes]:
        """Those of the lost jobs, beside the held ones, that must not be deleted now."""
        fresh = {path: top for path, top in lost.items() if path not in self._held}
        kept = self._beyond_limit(fresh, published)
        if saw_all:
            self._holds_on = False
            return kept
        gone = sum(missing[path].confirmed for path in fresh)
        return fresh if kept or self._deleted_on_hints + gone > self._minimum else {}

    def _beyond_limit(self, fresh: Mapping[bytes, bytes], published: int) -> Mapping[bytes, bytes]:
        """Those of some lost jobs that are more than may vanish at once, by rules 2 and 3."""
        if not fresh or self._holds_on:
            return fresh
        spent = len(self._deleted.keys() - fresh.keys())
        limit = max(self._minimum, self._fraction * (published + spent))
        whole = {path: top for path, top in fresh.items() if top.count(b"/") < WHOLE_DEPTH}
        if not self._held and spent + len(whole) <= limit:
            return fresh if spent + len(fresh) > limit else {}
        return whole if spent + len(fresh) - len(whole) <= self._minimum else fresh

    def _release(self, missing: Iterable[bytes]) -> None:
        self._released.update(missing)
        self._held.clear()
        self._deleted.clear()
        self._holds_on = False

    def _make_good(self, new: int, now: float) -> None:
        """Count no longer what was deleted before the window, nor what new jobs make good for."""
        recent = [item for item in self._deleted.items() if item[1] > now - WINDOW]
        self._deleted = dict(recent[new:])

    def _note_deleted(self, paths: Sequence[bytes], now: float, *, saw_all: bool) -> None:
        # By path: an attempt that fails is made again, and counts once.
        self._deleted.update(dict.fromkeys(paths, now))
        if not saw_all:
            self._deleted_on_hints += len(paths)

    def _describe_hold(self) -> Hold | None:
        if not self._held:
            return None
        return Hold(len(self._held), self._held_since, _common_directory(self._held.values()))


def make_policy(settings: Settings, *, holds_on: bool = False) -> DeletionPolicy:
    """A policy by the settings; ``holds_on`` is that of ``DeletionPolicy``.

    A directory is listed at least once in a relist, so within two of them a scan finds that an old place is gone.
    """
    moves = Moves(2 * settings.relist_interval)
    return DeletionPolicy(settings.hold_fraction, settings.hold_minimum, moves, holds_on=holds_on)


def _common_directory(paths: Iterable[bytes]) -> bytes:
    """The deepest path at or above all of some paths; empty for the root."""
    split = [path.split(b"/") for path in set(paths)]
    first, last = min(split), max(split)
    depth = next(
        (
            depth
            for depth, names in enumerate(zip(first, last, strict=False))
            if len(set(names)) > 1
        ),
        min(len(first), len(last)),
    )
    return b"/".join(first[:depth])
