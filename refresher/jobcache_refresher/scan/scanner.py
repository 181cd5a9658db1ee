"""One scan: discover what directories there are, look at the runs that are due, say what is new and what is gone.

Only one thing is an absence: a name that a directory, listed whole and without error, does not hold, observed twice.
Every error keeps what is known of the path it struck, is counted, and stops nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from jobcache_refresher.clock import Clock
from jobcache_refresher.limits import open_files_limit
from jobcache_refresher.records import Fields
from jobcache_refresher.scan.absences import Absence, missing_paths, missing_runs
from jobcache_refresher.scan.descriptors import DescriptorCache
from jobcache_refresher.scan.discovery import Discovery
from jobcache_refresher.scan.logreader import LogReader
from jobcache_refresher.scan.names import ignored_names
from jobcache_refresher.scan.notes import RunNotes
from jobcache_refresher.scan.reading import Finding, Reader, Reading, Trouble
from jobcache_refresher.scan.rereads import Rereads
from jobcache_refresher.scan.root import RootCheck, RootFaultError
from jobcache_refresher.scan.rules import Rules
from jobcache_refresher.scan.schedule import Schedule
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.snapshot import (
    CONFIRMATIONS,
    NEVER,
    ROOT,
    KnownDirectory,
    KnownRun,
    Snapshot,
)
from jobcache_refresher.scan.tree import Tree
from jobcache_refresher.scan.volume_check import VolumeCheck
from jobcache_refresher.scan.volumes import ReportedVolume, Volume
from jobcache_refresher.scan.waiting import Waiting
from jobcache_refresher.settings import Settings
from jobcache_refresher.workers import Workers

READINGS_AT_ONCE = 50
"""Runs that are read before they are passed on."""

Readings = dict[bytes, Fields]
"""Fields of runs that were read, by path."""


@dataclass(slots=True)
class Scan:
    """What a scan found."""

    read: list[bytes] = field(default_factory=list)
    """Runs that were read; what was read of them was given away."""
    missing: dict[bytes, Absence] = field(default_factory=dict)
    """Runs that are absent, confirmed or not."""
    errors: int = 0
    """Directories and files that cannot be read, or not as a job."""
    examined: int = 0
    """Runs looked at."""
    volumes: Sequence[ReportedVolume] = ()
    """Directories on filesystems of their own."""
    absence: str = ""
    """Says that the status directory is still to come; empty if it is there."""


class Scanner:
    """Keeps a snapshot of a tree up to date. Not for several threads at once.

    What a scan read before it failed is read again by the next: a reading counts as of when its scan began, and a
    deletion may lie in between.

    Args:
        tree: the status directory.
        settings: intervals and caps.
        clock: what time it is.
        progress: told how many of how many runs have been examined.
        mount_types: tells the filesystem type of an absolute path (as the empty path) and of whatever is mounted below
            it, by relative path, as far as that can be told.
        may_come_later: whether the root counts as empty until it is there for the first time.
    """

    def __init__(
        self,
        tree: Tree,
        settings: Settings,
        clock: Clock,
        progress: Callable[[int, int], None] = lambda done, total: None,
        mount_types: Callable[[bytes], Mapping[bytes, str]] = lambda place: {},
        *,
        may_come_later: bool = False,
    ) -> None:
        self._clock = clock
        self._progress = progress
        self._schedule = Schedule(
            settings.poll_interval,
            settings.relist_interval,
            settings.resync_interval,
        )
        self._waiting = Waiting(self._schedule)
        self._workers = Workers(settings.scan_threads, "jobcache-scan")
        self._descriptors = DescriptorCache(
            tree, min(settings.max_descriptors, open_files_limit() // 2)
        )
        is_ignored = ignored_names(settings.ignore)
        self._root_check = RootCheck(
            tree,
            lambda place: mount_types(place).get(ROOT),
            is_ignored,
            settings.marker,
            may_come_later=may_come_later,
        )
        volume_check = VolumeCheck(tree, mount_types, self._workers)
        self._volume_check, self._volumes = volume_check, volume_check.volumes
        self._discovery = Discovery(
            tree,
            self._root_check,
            volume_check,
            is_ignored,
            self._schedule,
            clock,
            self._workers,
            settings.settle,
        )
        self._notes = RunNotes(self._discovery, self._schedule, self._waiting, clock)
        self._reader = Reader(
            tree,
            self._descriptors,
            Rules.of(settings),
            LogReader(
                tree,
                clock,
                self._schedule,
                settle=settings.settle,
                cap=settings.log_scan_bytes,
                filesystem_type=lambda: self._root_check.filesystem_type,
            ),
            clock,
            self._schedule,
            settle=settings.settle,
            metadata_cap=settings.max_metadata_bytes,
        )
        self._rereads = Rereads(clock, settings.poll_interval)

    @property
    def snapshot(self) -> Snapshot:
        """What is known of the tree."""
        return self._discovery.snapshot

    @property
    def steps(self) -> int:
        """Grows with every directory listed and run looked at; while it stands still, the filesystem hangs."""
        return self._workers.calls

    def reset(self, snapshot: Snapshot) -> None:
        """Put another in place of all that is known of the tree, but not of what its root must be."""
        self._descriptors.drop_all()
        self._discovery.snapshot = snapshot
        self._rereads.begin(snapshot)

    def adopt_volumes(self, volumes: Iterable[ReportedVolume]) -> None:
        """Take over what an earlier leader knew of filesystems below the root."""
        self._volumes.adopt({one.path: Volume(None, one.fs_type) for one in volumes})

    def release_volumes(self) -> None:
        """An operator says that whatever is missing of volumes that are not believed is gone for good."""
        self._volume_check.release(self.snapshot)

    def close(self) -> None:
        """Let go of threads and descriptors."""
        self._workers.close()
        self._descriptors.drop_all()

    def scan(
        self,
        scope: Scope,
        hints: Iterable[bytes] = (),
        *,
        fresh_since: float,
        now: float = NEVER,
        give: Callable[[Readings], None] = lambda readings: None,
    ) -> Scan:
        """Look at the tree.

        Args:
            scope: how much of it.
            hints: paths of runs to discover or read again whatever their fingerprint; of other directories, to list.
            fresh_since: oldest heartbeat that counts as fresh, in epoch seconds; runs with a fresh one are looked at
                in every poll.
            now: what time it is on the server, in epoch seconds. What lies ahead of it and of this machine's clock
                counts as written in error.
            give: called with some of what was read, while the scan goes on, until it was called with all of it.

        Raises:
            RootFaultError: the status directory itself cannot be believed. The snapshot is as before.
        """
        pointed_at = frozenset(hints)
        self._reader.behind = max(0.0, now - self._clock.time())
        before = self._whereabouts()
        try:
            errors = self._discovery.discover(scope, pointed_at, fresh_since)
        except RootFaultError:
            self._descriptors.drop_all()
            raise
        if self._whereabouts() != before:
            # Mounted anew, or a link that leads elsewhere now: what is held is of before, and keeps a mount alive.
            self._descriptors.drop_all()
        scan = Scan(errors=errors, volumes=self._volumes.report(), absence=self._root_check.absence)
        try:
            self._look_at_runs(scan, scope, pointed_at, fresh_since, give)
        except BaseException:
            self.give_back(scan)
            raise
        self._judge_absences(scan, None if scope is not Scope.HINTS else pointed_at)
        return scan

    def _whereabouts(self) -> tuple[object, ...]:
        """Where the tree lies, the root and every other volume of it."""
        root, volumes = self._root_check, self._volumes
        return root.device, root.place, dict(volumes.known), frozenset(volumes.faults)

    def _look_at_runs(
        self,
        scan: Scan,
        scope: Scope,
        pointed_at: frozenset[bytes],
        fresh_since: float,
        give: Callable[[Readings], None],
    ) -> None:
        due = self._due(scope, pointed_at, fresh_since)
        torn = self._examine(scan, due, pointed_at, fresh_since, give)
        self._examine(scan, torn, pointed_at, fresh_since, give)

    def unconfirmed(self, paths: Iterable[bytes]) -> set[bytes]:
        """Those of some runs and directories that lack something, which awaits a second observation."""
        runs, directories = self.snapshot.runs, self.snapshot.directories
        return {
            path
            for path in paths
            if (path in runs and 0 < runs[path].file_missed < CONFIRMATIONS)
            or (path in directories and directories[path].has_missing)
        }

    def give_back(self, scan: Scan) -> None:
        """Have the next scan read what this one read, and nobody took."""
        for path in scan.read:
            self.mark_dirty(path)

    def forget(self, path: bytes) -> None:
        """A run was deleted from the cache. If its directory is there, it may become a job again."""
        if path not in self.snapshot.runs:
            return
        self._descriptors.drop(path)
        if self.snapshot.is_gone(path):
            self.snapshot.forget(path)
        else:
            self.snapshot.runs[path] = KnownRun(path, self._clock.time())
            self.snapshot.outdated.discard(path)

    def mark_dirty(self, path: bytes) -> None:
        """Read a run again in the next scan, whatever its fingerprint."""
        if run := self.snapshot.runs.get(path):
            run.racy = True
            run.look_at = NEVER

    def _due(
        self, scope: Scope, pointed_at: frozenset[bytes], fresh_since: float
    ) -> list[KnownRun]:
        runs = self.snapshot.runs
        covers = self._volumes.covers
        if scope is Scope.HINTS:
            return [runs[path] for path in pointed_at if path in runs and not covers(path)]
        for path in self._rereads.take(self.snapshot.outdated):
            self.mark_dirty(path)
        now = float("inf") if scope is Scope.RELIST else self._clock.monotonic()
        due = [
            run
            for run in runs.values()
            if run.look_at <= now or (run.beat is not None and run.beat >= fresh_since)
        ]
        if scope is Scope.POLL:
            early = self._waiting.in_busy_groups(runs, self._discovery.busy, now)
            due += [run for run in early if not run.is_live(fresh_since)]
        # Anywhere above them, too: a project that became a link leads elsewhere.
        present = self.snapshot.present(due)
        if pointed_at:
            others = pointed_at - {run.path for run in present}
            present += [runs[path] for path in others if path in runs]
        return [run for run in present if not covers(run.path)]

    def _examine(
        self,
        scan: Scan,
        runs: list[KnownRun],
        forced: frozenset[bytes],
        fresh_since: float,
        give: Callable[[Readings], None],
    ) -> list[KnownRun]:
        """Look at runs; returns those that were caught in the middle of being written."""

        look, filesystem_of = self._reader.examine, self._discovery.filesystem_of
        all_prove = self._discovery.believes_inodes

        def examine(run: KnownRun) -> Finding:
            live = run.is_live(fresh_since)
            inodes = all_prove or (where := filesystem_of(run)) is None or where.inodes.prove
            return look(run, forced=run.path in forced, live=live, inodes=inodes)

        torn = []
        fresh: Readings = {}
        findings = self._workers.map(examine, runs)
        for done, (run, finding) in enumerate(zip(runs, findings, strict=True), 1):
            scan.examined += 1
            self._notes.take(run, finding)
            if isinstance(finding, Reading):
                scan.read.append(run.path)
                fresh[run.path] = finding.fields
                if len(fresh) == READINGS_AT_ONCE:
                    give(fresh)
                    fresh = {}
            elif isinstance(finding, Trouble) and finding.passing:
                torn.append(run)
            self._progress(done, len(runs))
        if fresh:
            give(fresh)
        return torn

    def _judge_absences(self, scan: Scan, among: Iterable[bytes] | None) -> None:
        """Say what is absent: of everything, or, since hints come often, of some paths only."""
        if among is None:
            runs: Iterable[KnownRun] = self.snapshot.runs.values()
            directories: Iterable[KnownDirectory] = self.snapshot.directories.values()
            scan.errors += sum(
                run.trouble is not None and not self.snapshot.is_gone(run.path) for run in runs
            )
        else:
            known = self.snapshot
            runs = [known.runs[path] for path in among if path in known.runs]
            directories = [known.directories[path] for path in among if path in known.directories]
        missing = missing_paths(directories)
        absent = missing_runs(self.snapshot, runs, missing)
        scan.missing = {
            path: absence for path, absence in absent.items() if not self._volumes.covers(path)
        }
        for absence in missing:
            if absence.confirmed:
                self._prune(absence.top)

    def _prune(self, path: bytes) -> None:
        """Drop what is gone and never was a job."""
        runs = list(self.snapshot.runs_below(path))
        for run in runs:
            if run.fingerprint is None:
                self.snapshot.forget(run.path)
        if not runs:
            self.snapshot.prune(path)
