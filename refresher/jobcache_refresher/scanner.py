"""From the tree to what is new in it: discover, fingerprint, read what changed, parse.

Only one thing is an absence: a name that a directory, listed whole and without error, does not hold, observed twice.
Every error keeps what is known of the path it struck, is counted, and stops nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from jobcache.codec import FINGERPRINT, LOG_NAME, METADATA_NAME, decode_standing, encode_job
from jobcache.ids import JobId
from jobcache.models import JobStatus
from jobcache_refresher.clock import Clock
from jobcache_refresher.parse import UnparsableError, parse_metadata
from jobcache_refresher.settings import Settings
from jobcache_refresher.snapshot import (
    CONFIRMATIONS,
    ROOT,
    RUN_DEPTH,
    KnownDirectory,
    KnownRun,
    Snapshot,
    join,
)
from jobcache_refresher.tree import Directory, Fingerprint, TornReadError, Tree
from jobcache_refresher.workers import Workers

log = logging.getLogger(__name__)

METADATA = METADATA_NAME.encode()
LOG = LOG_NAME.encode()

ACTIVE_FOR = 600.0
"""Seconds for which a directory is looked at every poll after something changed in it."""
LOG_CHUNK = 256 << 10
"""Most bytes of one log that one look searches."""


class Scope(IntEnum):
    """How much of the tree a scan looks at."""

    HINTS = 0
    """Only the paths that somebody pointed at."""
    POLL = 1
    """What is likely to have changed."""
    RELIST = 2
    """Everything."""


class RootFaultError(Exception):
    """The status directory cannot be believed: nothing that it shows, or no longer shows, counts."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A run as it was just read: the fields of its hash, the fingerprint among them."""

    path: bytes
    fields: dict[bytes, bytes]
    fingerprint: Fingerprint
    settled: bool


@dataclass(frozen=True, slots=True)
class _Trouble:
    path: bytes
    reason: str
    passing: bool
    """Whether the file was caught in the middle of being written, so that a second look may do."""


@dataclass(frozen=True, slots=True)
class _FileMissing:
    path: bytes


@dataclass(slots=True)
class Scan:
    """What a scan found."""

    readings: dict[bytes, Reading] = field(default_factory=dict)
    gone: list[bytes] = field(default_factory=list)
    """Runs whose absence is confirmed."""
    errors: int = 0
    """Directories and files that could not be read, or not as a job."""
    examined: int = 0
    """Runs looked at."""


class Scanner:
    """Keeps a snapshot of a tree up to date.

    Args:
        tree: the status directory.
        settings: intervals and caps.
        clock: what time it is.
        progress: told how many of how many runs have been examined.
    """

    def __init__(
        self,
        tree: Tree,
        settings: Settings,
        clock: Clock,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.snapshot = Snapshot()
        self._tree = tree
        self._settings = settings
        self._zone = settings.zone()
        self._clock = clock
        self._progress = progress
        self._workers = Workers(settings.scan_threads)
        self._device: int | None = None

    def close(self) -> None:
        """Let go of the threads."""
        self._workers.close()

    def scan(self, scope: Scope, hints: Iterable[bytes] = (), *, fresh_since: float) -> Scan:
        """Look at the tree.

        Args:
            scope: how much of it.
            hints: paths of runs to discover or read again whatever their fingerprint.
            fresh_since: oldest heartbeat that counts as fresh, in epoch seconds; runs with a fresh one are looked at
                in every poll.

        Raises:
            RootFaultError: the status directory itself cannot be believed. The snapshot is as before.
        """
        scan = Scan()
        pointed_at = frozenset(hints)
        self._discover(scan, scope, pointed_at, fresh_since)
        due = [
            run
            for run in self.snapshot.runs.values()
            if run.path in pointed_at or self._is_due(run, scope, fresh_since)
        ]
        again = self._examine_all(scan, due, pointed_at)
        if again:
            self._examine_all(scan, again, pointed_at)
        scan.errors += sum(run.trouble is not None for run in self.snapshot.runs.values())
        scan.gone = self._confirmed_absences()
        return scan

    # Directories

    def _discover(
        self, scan: Scan, scope: Scope, hints: frozenset[bytes], fresh_since: float
    ) -> None:
        self._believe_root()
        pointed_at = {
            b"/".join(path.split(b"/")[:depth]) for path in hints for depth in range(RUN_DEPTH)
        }
        live_groups = {
            run.path.rsplit(b"/", 2)[0]
            for run in self.snapshot.runs.values()
            if run.beat is not None and run.beat >= fresh_since
        }
        level = self._directories_below(ROOT)
        while level:
            to_list = [one for one in level if self._must_list(one, scope, pointed_at)]
            listed = set(map(id, to_list))
            to_check = [
                one
                for one in level
                if scope is Scope.POLL
                and id(one) not in listed
                and self._is_active(one, live_groups)
            ]
            for directory, changed in zip(
                to_check, self._workers.map(self._has_changed, to_check), strict=True
            ):
                if changed:
                    to_list.append(directory)
            self._list_all(scan, to_list)
            level = [
                below for directory in level for below in self._directories_below(directory.path)
            ]

    def _believe_root(self) -> None:
        root = self.snapshot.directories[ROOT]
        shown = self._tree.root.decode("utf-8", "backslashreplace")
        listed_at = self._clock.time()
        listing = self._list(root)
        if isinstance(listing, OSError):
            raise RootFaultError(f"status_dir={shown!r}: {listing.strerror or listing}")
        present = {name for name, missed in root.children.items() if missed < CONFIRMATIONS}
        if present and not listing.subdirectories:
            raise RootFaultError(f"status_dir={shown!r} turned empty")
        moved = self._device is not None and listing.device != self._device
        if moved and present and not present & listing.subdirectories:
            raise RootFaultError(f"status_dir={shown!r} shows another filesystem")
        self._device = listing.device
        self._absorb(root, listing, listed_at)

    def _directories_below(self, path: bytes) -> list[KnownDirectory]:
        directory = self.snapshot.directories[path]
        if directory.depth + 1 == RUN_DEPTH:
            return []
        return [
            self.snapshot.directories[join(path, name)]
            for name, missed in directory.children.items()
            if missed == 0
        ]

    def _must_list(self, directory: KnownDirectory, scope: Scope, hints: set[bytes]) -> bool:
        if directory.mtime_ns is None or directory.path in hints or scope is Scope.RELIST:
            return True
        return scope is Scope.POLL and (not directory.settled or directory.doubtful)

    def _is_active(self, directory: KnownDirectory, live_groups: set[bytes]) -> bool:
        if directory.depth + 1 < RUN_DEPTH:
            return True
        group = self.snapshot.directories[directory.path.rpartition(b"/")[0]]
        recent = self._clock.monotonic() - ACTIVE_FOR
        return group.path in live_groups or max(directory.changed_at, group.changed_at) > recent

    def _has_changed(self, directory: KnownDirectory) -> bool:
        try:
            return self._tree.directory_mtime_ns(directory.path) != directory.mtime_ns
        except OSError:
            return True  # listing it tells why

    def _list(self, directory: KnownDirectory) -> Directory | OSError:
        try:
            return self._tree.list_directory(directory.path)
        except OSError as error:
            return error

    def _list_all(self, scan: Scan, directories: list[KnownDirectory]) -> None:
        listed_at = self._clock.time()
        for directory, listing in zip(
            directories, self._workers.map(self._list, directories), strict=True
        ):
            if isinstance(listing, FileNotFoundError):
                self._doubt_parent(directory.path)
            elif isinstance(listing, OSError):
                directory.settled = False
                self._count(scan, directory.path, listing)
            elif listing.device != self._device:
                self._count(scan, directory.path, OSError("lies on another device"))
            else:
                self._absorb(directory, listing, listed_at)

    def _absorb(self, directory: KnownDirectory, listing: Directory, listed_at: float) -> None:
        now = self._clock.monotonic()
        children = directory.children
        before = {name for name, missed in children.items() if missed == 0}
        if before != listing.subdirectories:
            directory.changed_at = now
        for name in [*children]:
            if name not in listing.subdirectories:
                children[name] += 1
        for name in listing.subdirectories:
            children[name] = 0
            if name not in before:
                self._meet(directory, name, now)
        directory.mtime_ns = listing.mtime_ns
        directory.settled = listing.mtime_ns / 1e9 + self._settings.settle < listed_at

    def _meet(self, parent: KnownDirectory, name: bytes, now: float) -> None:
        path = join(parent.path, name)
        if parent.depth + 1 == RUN_DEPTH:
            self.snapshot.runs.setdefault(path, KnownRun(path, now))
        else:
            self.snapshot.directories.setdefault(path, KnownDirectory(path, parent.depth + 1))

    def _doubt_parent(self, path: bytes) -> None:
        self.snapshot.directories[path.rpartition(b"/")[0]].settled = False

    # Runs

    def _is_due(self, run: KnownRun, scope: Scope, fresh_since: float) -> bool:
        parent, _, name = run.path.rpartition(b"/")
        if scope is Scope.HINTS or self.snapshot.directories[parent].children.get(name) != 0:
            return False
        if scope is Scope.RELIST or run.trouble is not None or run.file_missed:
            return True
        if run.fingerprint is None:
            return self._clock.monotonic() - run.first_seen < ACTIVE_FOR
        return not run.settled or (run.beat is not None and run.beat >= fresh_since)

    def _examine_all(
        self, scan: Scan, runs: list[KnownRun], forced: frozenset[bytes]
    ) -> list[KnownRun]:
        """Examine runs; return those that were caught in the middle of being written."""
        again = []

        def examine(run: KnownRun) -> Reading | _Trouble | _FileMissing | None:
            return self._examine(run, run.path in forced)

        for done, (run, outcome) in enumerate(
            zip(runs, self._workers.map(examine, runs), strict=True), 1
        ):
            scan.examined += 1
            self._progress(done, len(runs))
            if isinstance(outcome, Reading):
                scan.readings[run.path] = outcome
                self._note_reading(run, outcome)
            elif isinstance(outcome, _Trouble):
                if outcome.reason != run.trouble:
                    log.warning("%s: %s", _shown(run.path), outcome.reason)
                run.trouble = outcome.reason
                if outcome.passing:
                    again.append(run)
            elif isinstance(outcome, _FileMissing):
                run.trouble = None
                run.file_missed += 1
            else:
                run.file_missed = 0
        return again

    def _examine(self, run: KnownRun, forced: bool) -> Reading | _Trouble | _FileMissing | None:
        try:
            return self._look(run, forced)
        except FileNotFoundError:
            return self._look_for_file(run)
        except OSError as error:
            torn = isinstance(error, TornReadError)
            return _Trouble(run.path, f"cannot be read: {error.strerror or error}", passing=torn)
        except UnparsableError as error:
            return _Trouble(run.path, f"{METADATA_NAME} is no job: {error}", passing=True)
        except Exception as error:  # one poison run must not stop the others
            return _Trouble(run.path, f"{METADATA_NAME} cannot be kept: {error!r}", passing=False)

    def _look(self, run: KnownRun, forced: bool) -> Reading | None:
        path = join(run.path, METADATA)
        trusted = run.fingerprint is not None and run.settled and run.trouble is None
        if trusted and not forced and self._tree.fingerprint(path) == run.fingerprint:
            return None
        read_at = self._clock.time()
        fingerprint, raw = self._tree.read_whole(path, self._settings.max_metadata_bytes)
        job = parse_metadata(raw, JobId.from_path(run.path), self._zone)
        self._search_log(run, ended=job.status is not JobStatus.RUNNING)
        job.wandb_url = run.log.url
        fields = encode_job(job, log_scanned=run.log.scanned)
        fields[FINGERPRINT] = fingerprint.encode()
        return Reading(run.path, fields, fingerprint, self._is_settled(run, fingerprint, read_at))

    def _is_settled(self, run: KnownRun, fingerprint: Fingerprint, read_at: float) -> bool:
        changed_at, settle = fingerprint.mtime_ns / 1e9, self._settings.settle
        if changed_at <= read_at + settle:
            return changed_at + settle < read_at
        # The writer's clock is ahead of this one: go by when this fingerprint was first met.
        met_before = fingerprint == run.fingerprint
        return met_before and self._clock.monotonic() - run.read_at > settle

    def _search_log(self, run: KnownRun, *, ended: bool) -> None:
        wanted = run.log.wants(self._settings.log_scan_bytes)
        if not wanted and run.log.scanned is not None:
            return
        try:
            size, data = self._tree.read_part(
                join(run.path, LOG), run.log.scanned or 0, min(wanted, LOG_CHUNK)
            )
        except OSError:
            return  # no log, or not now: a log is looked at again with the next heartbeat
        run.log.feed(size, data, ended=ended)

    def _look_for_file(self, run: KnownRun) -> _Trouble | _FileMissing | None:
        if run.fingerprint is None:
            return None
        try:
            listing = self._tree.list_directory(run.path)
        except FileNotFoundError:
            self._doubt_parent(run.path)
            return None
        except OSError as error:
            return _Trouble(run.path, f"cannot be listed: {error.strerror}", passing=False)
        return None if METADATA in listing.others else _FileMissing(run.path)

    def _note_reading(self, run: KnownRun, reading: Reading) -> None:
        if run.fingerprint != reading.fingerprint:
            run.fingerprint = reading.fingerprint
            run.read_at = self._clock.monotonic()
        run.settled = reading.settled
        run.beat = beat_of(reading.fields)
        run.trouble = None
        run.file_missed = 0

    # Absences

    def _confirmed_absences(self) -> list[bytes]:
        gone = [run.path for run in self.snapshot.runs.values() if run.file_missed >= CONFIRMATIONS]
        for directory in list(self.snapshot.directories.values()):
            for name, missed in list(directory.children.items()):
                if missed >= CONFIRMATIONS:
                    gone += self._absent_below(join(directory.path, name))
        return gone

    def _absent_below(self, path: bytes) -> list[bytes]:
        """Known runs below a path that is gone; directories without one are dropped at once."""
        runs = list(self.snapshot.below(path))
        published = [run.path for run in runs if run.fingerprint is not None]
        for run in runs:
            if run.fingerprint is None:
                self.snapshot.forget(run.path)
        if not runs:
            self.snapshot.forget(path)
        return published

    def forget(self, path: bytes) -> None:
        """A run was deleted from the cache. If its directory is there, it may become a job again."""
        run = self.snapshot.runs.get(path)
        if run is None:
            return
        if self.snapshot.is_gone(path):
            self.snapshot.forget(path)
        else:
            self.snapshot.runs[path] = KnownRun(path, self._clock.monotonic())

    def distrust(self, path: bytes) -> None:
        """Read a run again in the next scan, whatever its fingerprint."""
        run = self.snapshot.runs.get(path)
        if run is not None:
            run.settled = False

    def recall(self, path: bytes, fields: dict[bytes, bytes]) -> None:
        """Take over a run as an earlier refresher published it, so that only what changed since is read."""
        run = self.snapshot.expect(path, self._clock.monotonic())
        run.fingerprint = Fingerprint.parse(fields.get(FINGERPRINT, b""))
        run.settled = run.fingerprint is not None
        run.fingerprint = run.fingerprint or Fingerprint(0, 0, 0, 0)
        run.beat = beat_of(fields)
        scanned, url = fields.get(b"log_scanned"), fields.get(b"wandb_url")
        run.log.scanned = None if scanned is None else int(scanned)
        run.log.url = None if url is None else url.decode("utf-8", "replace")

    def _count(self, scan: Scan, path: bytes, error: OSError) -> None:
        scan.errors += 1
        log.warning("%s: %s", _shown(path), error.strerror or error)


def beat_of(fields: dict[bytes, bytes]) -> float | None:
    """The heartbeat of a running job in epoch seconds; None for any other job, or an unreadable one."""
    standing = decode_standing(fields)
    return standing.heartbeat_at if standing.status is JobStatus.RUNNING else None


def _shown(path: bytes) -> str:
    """A path for the log, whatever bytes it holds."""
    return ascii(path.decode("utf-8", "backslashreplace"))
