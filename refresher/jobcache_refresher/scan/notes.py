"""What is noted of a run after each look at it, and when the next look is due."""

from __future__ import annotations

from jobcache_refresher.clock import Clock
from jobcache_refresher.scan.discovery import Discovery
from jobcache_refresher.scan.reading import (
    DirectoryMissing,
    FileMissing,
    Finding,
    Reading,
    Trouble,
    Unchanged,
)
from jobcache_refresher.scan.schedule import Schedule
from jobcache_refresher.scan.snapshot import APART, NEVER, PASSING_LOOKS, KnownRun
from jobcache_refresher.scan.tree import Fingerprint
from jobcache_refresher.scan.waiting import Waiting


class RunNotes:
    """Records the result of each look at a run.

    Args:
        discovery: what is known of the directories above.
        schedule: when a run that could be read is looked at again.
        waiting: when one that could not is.
        clock: what time it is.
    """

    def __init__(
        self, discovery: Discovery, schedule: Schedule, waiting: Waiting, clock: Clock
    ) -> None:
        self._discovery = discovery
        self._schedule = schedule
        self._waiting = waiting
        self._clock = clock

    def take(self, run: KnownRun, finding: Finding) -> None:
        """Note what a look found."""
        time, now = self._clock.time(), self._clock.monotonic()
        above = run.path.rpartition(b"/")[0]
        if isinstance(finding, Unchanged):
            run.trouble, run.troubled, run.file_missed = None, 0, 0
        else:
            self._note_news(run, finding, above, time, now)
        run.changed_at = min(run.changed_at, time)  # A time in the future tells no more than now.
        unchanged_for = time - run.changed_at
        if run.is_waiting:
            run.look_at = now + self._waiting.interval(run, unchanged_for, above)
        else:
            run.look_at = now + self._schedule.quiet_interval(unchanged_for, above)
        racy = run.fingerprint is not None and run.racy and run.trouble is None
        lost = run.troubled and run.trouble is None
        if racy or lost or run.file_missed:
            run.look_at = NEVER

    def _note_news(
        self, run: KnownRun, finding: Finding, above: bytes, time: float, now: float
    ) -> None:
        if isinstance(finding, DirectoryMissing):
            self._note_lost(run, above, time)
        elif isinstance(finding, Trouble):
            self._note_trouble(run, finding, time)
        else:
            run.trouble, run.troubled = None, 0
        if not isinstance(finding, FileMissing):
            run.file_missed = 0
        elif now - run.missed_at > APART:
            run.file_missed += 1
            run.missed_at = now
        if isinstance(finding, Reading):
            self._note_reading(run, finding)

    def _note_lost(self, run: KnownRun, above: bytes, now: float) -> None:
        """A run's directory was not found. If a new listing holds it all the same, that is a trouble."""
        if run.troubled and self._discovery.shows(above):
            reason = "its directory cannot be found, though a listing holds it"
            self._note_trouble(run, Trouble(reason, passing=False), now)
        else:
            run.troubled = max(1, run.troubled)
        self._discovery.mark_dirty(above)

    def _note_trouble(self, run: KnownRun, trouble: Trouble, now: float) -> None:
        if run.trouble is None:
            run.changed_at = now
        run.troubled = run.troubled + 1 if trouble.passing else PASSING_LOOKS
        run.trouble = trouble.reason

    def _note_reading(self, run: KnownRun, reading: Reading) -> None:
        self._doubt_numbers(run, reading.fingerprint)
        if run.fingerprint != reading.fingerprint:
            run.fingerprint = reading.fingerprint
            run.read_at = self._clock.monotonic()
        run.changed_at = reading.fingerprint.mtime_ns / 1e9
        run.racy = reading.racy
        run.beat = reading.beat
        run.remark = reading.remark
        self._discovery.snapshot.outdated.discard(run.path)

    def _doubt_numbers(self, run: KnownRun, fingerprint: Fingerprint) -> None:
        """A file was read again; if nothing but numbers changed, they may prove nothing."""
        renumbered = self._discovery.renumbered
        if fingerprint.matches(run.fingerprint, inodes=False):
            filesystem = self._discovery.filesystem_of(run)
            if filesystem is not None and run.path in renumbered:
                filesystem.entry_numbers.doubt()
            if filesystem is not None and fingerprint != run.fingerprint:
                filesystem.inodes.doubt()
        renumbered.discard(run.path)
