"""Which directories there are: those listed in this scan, as the schedule has it, and those known from before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Set

from jobcache_refresher.clock import Clock
from jobcache_refresher.scan.names import passed_over, without_ignored
from jobcache_refresher.scan.root import RootCheck
from jobcache_refresher.scan.schedule import ACTIVE_FOR, NAME_DEPTH, Schedule
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.snapshot import (
    APART,
    CONFIRMATIONS,
    NEVER,
    NOTHING,
    ROOT,
    RUN_DEPTH,
    KnownDirectory,
    KnownRun,
    Snapshot,
    join,
)
from jobcache_refresher.scan.tree import Directory, Tree
from jobcache_refresher.scan.volume_check import VolumeCheck
from jobcache_refresher.text import shown
from jobcache_refresher.workers import Workers

log = logging.getLogger(__name__)


class Discovery:
    """Keeps the directories of a snapshot up to date.

    ``settle`` is for how many seconds the filesystem may show old attributes.
    ``is_ignored`` tells which names are passed over.
    """

    def __init__(
        self,
        tree: Tree,
        root_check: RootCheck,
        volume_check: VolumeCheck,
        is_ignored: Callable[[bytes], bool],
        schedule: Schedule,
        clock: Clock,
        workers: Workers,
        settle: float,
    ) -> None:
        self.snapshot = Snapshot()
        self._tree = tree
        self._root_check = root_check
        self._volume_check = volume_check
        self._volumes = volume_check.volumes
        self._is_ignored = is_ignored
        self._schedule = schedule
        self._clock = clock
        self._workers = workers
        self._settle = settle

    def discover(self, scope: Scope, hints: Iterable[bytes], fresh_since: float) -> int:
        """List what is due, from the root down; returns how many directories could not be listed.

        Raises:
            RootFaultError: the root cannot be believed. The snapshot is as before.
        """
        errors = self._look_at_root(scope)
        pointed_at: set[bytes] = set()
        for path in hints:
            names = path.split(b"/")
            pointed_at.update(
                b"/".join(names[:depth]) for depth in range(1, min(len(names), NAME_DEPTH) + 1)
            )
        busy = self._busy_groups(fresh_since) if scope is Scope.POLL else set()
        level = self.snapshot.present_below(ROOT)
        while level:
            due = [one for one in level if self._is_due(one, scope, pointed_at, busy)]
            errors += self._list_all(due)
            # Hints come often: what they cost must not grow with the tree.
            parents = due if scope is Scope.HINTS else level
            level = [
                below
                for one in parents
                if one.path not in self._volumes.faults
                for below in self.snapshot.present_below(one.path)
            ]
        self._volume_check.look_at_runs(
            self.snapshot, frozenset(hints) if scope is Scope.HINTS else None
        )
        self._volumes.end(self.snapshot)
        return errors

    def mark_dirty(self, path: bytes) -> None:
        """Something is gone from a directory: list it in the next scan."""
        self.snapshot.directories[path].racy = True

    def _look_at_root(self, scope: Scope) -> int:
        root = self.snapshot.directories[ROOT]
        known = {name for name, missed in root.children.items() if missed < CONFIRMATIONS}
        listed_at, place = self._clock.time(), self._root_check.place
        listing = self._root_check.look(known)
        if place not in {None, self._root_check.place}:
            log.info("the status directory lies at %s now", shown(self._root_check.place or b""))
            self.snapshot.doubt_all()
            self._volumes.adopt({})
        self._volume_check.begin(listing.device, is_brief=scope is Scope.HINTS)
        return self._absorb(root, self._without_ignored(root, listing), listed_at)

    def _busy_groups(self, fresh_since: float) -> set[bytes]:
        """Groups with a live run, or in which something changed lately."""
        recent = self._clock.monotonic() - ACTIVE_FOR
        busy = {
            run.path.rsplit(b"/", 2)[0]
            for run in self.snapshot.runs.values()
            if run.is_live(fresh_since)
        }
        for directory in self.snapshot.directories.values():
            if directory.changed_at > recent:
                above = directory.depth == NAME_DEPTH
                busy.add(directory.path.rpartition(b"/")[0] if above else directory.path)
        return busy

    def _is_due(
        self, directory: KnownDirectory, scope: Scope, pointed_at: set[bytes], busy: set[bytes]
    ) -> bool:
        if directory.mtime_ns is None or scope is Scope.RELIST or directory.path in pointed_at:
            return True
        if scope is Scope.HINTS:
            return False
        changed = directory.shown_mtime_ns not in {None, directory.mtime_ns}
        overdue = directory.list_at <= self._clock.monotonic() or directory.path in busy
        overdue |= directory.path in self._volumes.known
        return changed or overdue or directory.racy or directory.has_missing

    def _list_all(self, directories: list[KnownDirectory]) -> int:
        errors = 0
        listed_at = self._clock.time()
        listings = self._workers.map(self._list, directories)
        for directory, listing in zip(directories, listings, strict=True):
            trouble = self._volume_check.doubt(directory.path, listing, self.snapshot)
            if trouble is not None:
                directory.racy, directory.trouble = True, trouble
                errors += 1
            elif isinstance(listing, OSError):
                self.mark_dirty(directory.path.rpartition(b"/")[0])
            else:
                errors += self._absorb(directory, listing, listed_at)
                interval = self._schedule.listing_interval(directory.depth, directory.path)
                directory.list_at = self._clock.monotonic() + interval
        return errors

    def _list(self, directory: KnownDirectory) -> Directory | OSError:
        try:
            # Of a name's subdirectories, the runs, the mtimes tell nothing.
            listing = self._tree.list_directory(
                directory.path, with_mtimes=directory.depth < NAME_DEPTH
            )
        except OSError as error:
            return error
        return self._without_ignored(directory, listing)

    def _without_ignored(self, directory: KnownDirectory, listing: Directory) -> Directory:
        # What Redis holds may be of a refresher that read it. What is missing may be passed over.
        met = directory.children if directory.mtime_ns is not None else {}
        return without_ignored(listing, lambda name: met.get(name) == 0, self._is_ignored)

    def _absorb(self, directory: KnownDirectory, listing: Directory, listed_at: float) -> int:
        """Take over a listing; returns how many names in it could not be looked at."""
        above, depth = join(directory.path, b""), directory.depth + 1
        children, found = directory.children, listing.subdirectories
        # A first listing is no news; else everything would count as busy after a start.
        is_news = directory.mtime_ns is not None
        # What could not be looked at is there all the same: of a name that is known, nothing changes. A mount may be
        # made only when it is entered, and shows itself then.
        absent = children.keys() - found.keys()
        kept = {
            name
            for name in absent
            if name in listing.unknown or self._volumes.is_mount(above + name)
        }
        there = found.keys() | kept
        if is_news and there != {name for name, missed in children.items() if missed == 0}:
            directory.changed_at = self._clock.monotonic()
        if missing := absent - kept:
            self._miss(directory, missing)
        children.update(dict.fromkeys(kept, 0))
        for name, child in found.items():
            children[name] = 0
            if depth == RUN_DEPTH:
                self._meet_run(above + name, child.inode)
            else:
                self._meet_directory(above + name, depth, child.mtime_ns, is_news)
        directory.trouble = None
        directory.passed_over = self._passed_over(directory, listing) or NOTHING
        directory.mtime_ns = listing.mtime_ns
        long_ago = listing.mtime_ns / 1e9 + self._settle < listed_at
        directory.racy = not long_ago or bool(listing.unknown)
        if listing.unknown:
            log.warning(
                "%s: %d names in it cannot be looked at",
                shown(directory.path),
                len(listing.unknown),
            )
        return len(listing.unknown)

    def _passed_over(self, directory: KnownDirectory, listing: Directory) -> dict[bytes, str]:
        def leads_away(name: bytes) -> bool:
            if name in directory.passed_over:
                return True
            try:
                target = self._tree.link_target(directory.path, name)
            except OSError:
                return True
            return target not in listing.subdirectories and target not in listing.others

        return passed_over(listing, self._is_ignored, leads_away)

    def _miss(self, directory: KnownDirectory, names: Set[bytes]) -> None:
        now = self._clock.monotonic()
        counts = now - directory.missed_at > APART
        for name in names:
            directory.children[name] = max(1, directory.children[name] + counts)
        if counts:
            directory.missed_at = now

    def _meet_directory(self, path: bytes, depth: int, mtime_ns: int | None, is_news: bool) -> None:
        known = self.snapshot.directories.get(path)
        if known is None:
            known = self.snapshot.directories[path] = KnownDirectory(path, depth)
            if is_news:
                known.changed_at = self._clock.monotonic()
        known.shown_mtime_ns = mtime_ns

    def _meet_run(self, path: bytes, inode: int) -> None:
        run = self.snapshot.runs.get(path)
        if run is None:
            run = self.snapshot.runs[path] = KnownRun(path, self._clock.time())
        if run.inode != inode:
            # Another directory under the same name: nothing that is known of its file holds.
            if run.inode != 0:
                run.racy, run.look_at = True, NEVER
            run.inode = inode
