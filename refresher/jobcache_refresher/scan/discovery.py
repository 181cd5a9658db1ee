"""Which directories there are: those listed in this scan, as the schedule has it, and those known from before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Set

from jobcache_refresher.clock import Clock
from jobcache_refresher.scan.filesystem import Filesystem, Times
from jobcache_refresher.scan.names import passed_over, without_ignored
from jobcache_refresher.scan.racy import is_racy
from jobcache_refresher.scan.root import RootCheck
from jobcache_refresher.scan.schedule import ACTIVE_FOR, NAME_DEPTH, Schedule
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.snapshot import (
    APART,
    CONFIRMATIONS,
    NEVER,
    NOTHING,
    ROOT,
    KnownDirectory,
    KnownRun,
    Snapshot,
    join,
)
from jobcache_refresher.scan.tree import Child, CutListingError, Directory, Tree
from jobcache_refresher.scan.volume_check import VolumeCheck
from jobcache_refresher.text import shown
from jobcache_refresher.workers import Workers

log = logging.getLogger(__name__)

FEW = 20
"""Runs of one name that are looked at when its directory changed: one may be another directory by now that bears the
number of the one before. A name with more costs too much for that, and waits for the usual look."""


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
        self.busy: set[bytes] = set()
        """Groups in which change is expected, as of the last poll."""
        self.renumbered: set[bytes] = set()
        """Runs that a listing showed with another number, which are read again for that."""
        self._tree = tree
        self._root_check = root_check
        self._volume_check = volume_check
        self._volumes = volume_check.volumes
        self._is_ignored = is_ignored
        self._schedule = schedule
        self._clock = clock
        self._workers = workers
        self._settle = settle
        self._filesystems: dict[int, Filesystem] = {}
        """By device."""
        self._changed_after: dict[bytes, float] = {}
        """Directories that changed and may be racy, each with a time at which another state was still shown."""
        self._listings = 0
        """How many listings were taken over."""
        self._began = NEVER
        """Monotonic time at which the last scan began."""

    def discover(self, scope: Scope, hints: Iterable[bytes], fresh_since: float) -> int:
        """List what is due, from the root down; returns how many directories could not be listed.

        Raises:
            RootFaultError: the root cannot be believed. The snapshot is as before.
        """
        self._began = self._clock.monotonic()
        errors = self._look_at_root(scope)
        pointed_at: set[bytes] = set()
        for path in hints:
            names = path.split(b"/")
            pointed_at.update(
                b"/".join(names[:depth]) for depth in range(1, min(len(names), NAME_DEPTH) + 1)
            )
        if scope is Scope.POLL:
            recently = self._clock.monotonic() - ACTIVE_FOR
            self.busy = self.snapshot.busy_groups(fresh_since, recently)
        level = self.snapshot.present_below(ROOT)
        while level:
            due = [one for one in level if self._is_due(one, scope, pointed_at)]
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

    def shows(self, path: bytes) -> bool:
        """Whether a directory was listed whole in this scan, so that what it holds is there."""
        return self.snapshot.directories[path].listed_at >= self._began

    def filesystem_of(self, run: KnownRun) -> Filesystem | None:
        """The filesystem that a run lies on; None if that is not known."""
        above = self.snapshot.directories.get(run.path.rpartition(b"/")[0])
        return above.filesystem if above else None

    @property
    def believes_inodes(self) -> bool:
        """Whether inode numbers prove something on every filesystem of the tree."""
        return all(one.inodes.prove for one in self._filesystems.values())

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

    def _is_due(self, directory: KnownDirectory, scope: Scope, pointed_at: set[bytes]) -> bool:
        if directory.listed_at == NEVER or scope is Scope.RELIST or directory.path in pointed_at:
            return True
        if scope is Scope.HINTS:
            return False
        overdue = directory.list_at <= self._clock.monotonic() or self._is_busy(directory)
        overdue |= directory.path in self._volumes.known
        return overdue or directory.racy or directory.has_missing

    def _is_busy(self, directory: KnownDirectory) -> bool:
        """Whether only a listing tells of the change that is expected in a directory."""
        if directory.depth < NAME_DEPTH:
            return directory.path in self.busy
        times_prove = directory.filesystem is not None and directory.filesystem.times_prove
        return not times_prove and directory.path.rpartition(b"/")[0] in self.busy

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
                errors += self._note_lost(directory, listing)
            else:
                errors += self._absorb(directory, listing, listed_at)
                interval = self._schedule.listing_interval(
                    directory.depth,
                    directory.path,
                    times_prove=self._filesystem(listing).times_prove,
                )
                directory.list_at = self._clock.monotonic() + interval
        return errors

    def _note_lost(self, directory: KnownDirectory, error: OSError) -> int:
        """A directory was not found; returns 1 if its parent's listings hold it all the same, else 0."""
        parent = directory.path.rpartition(b"/")[0]
        contradicted = directory.lost and self.shows(parent)
        directory.lost = directory.racy = True
        self.mark_dirty(parent)
        if contradicted:
            directory.trouble = f"cannot be listed: {error.strerror or error}"
        return int(contradicted)

    def _list(self, directory: KnownDirectory) -> Directory | OSError:
        try:
            # Of a name's subdirectories, the runs, the times tell nothing.
            listing = self._tree.list_directory(
                directory.path, with_mtimes=directory.depth < NAME_DEPTH
            )
        except CutListingError as error:
            return self._without_ignored(directory, error.part)
        except OSError as error:
            return error
        return self._without_ignored(directory, listing)

    def _without_ignored(self, directory: KnownDirectory, listing: Directory) -> Directory:
        # What Redis holds may be of a refresher that read it. What is missing may be passed over.
        met = directory.children if directory.listed_at != NEVER else {}
        return without_ignored(listing, lambda name: met.get(name) == 0, self._is_ignored)

    def _absorb(self, directory: KnownDirectory, listing: Directory, listed_at: float) -> int:
        """Take over a listing; returns how many names in it could not be looked at, and 1 more if it is not whole."""
        above, children = join(directory.path, b""), directory.children
        found = listing.subdirectories
        now, filesystem = self._clock.monotonic(), self._filesystem(listing)
        # A first listing is no news; else everything would count as busy after a start.
        is_news = directory.listed_at != NEVER
        # What could not be looked at is there all the same: of a name that is known, nothing changes. A mount may be
        # made only when it is entered, and shows itself then.
        absent = children.keys() - found.keys()
        kept = {
            name
            for name in absent
            if name in listing.unknown or self._volumes.is_mount(above + name)
        }
        if listing.cut is None:
            present = {name for name, missed in children.items() if missed == 0}
            if is_news and present != found.keys() | kept:
                directory.changed_at = now
                if not directory.racy and _is_as_shown(directory, listing):
                    filesystem.suspect(directory.path, now)
            if missing := absent - kept:
                self._miss(directory, missing)
            else:
                directory.seen_at = self._began
        # One by one: a dictionary that is updated from another takes twice the memory.
        for name in (*kept, *found):
            children[name] = 0
        worth = filesystem.times
        if directory.depth == NAME_DEPTH:
            self._meet_runs(directory, found, filesystem)
        else:
            for name, child in found.items():
                self._meet_directory(above + name, child, directory, is_news, filesystem)
        if filesystem.times is not worth and filesystem.times is Times.WORTHLESS:
            self._note_worthless(directory, filesystem)
        directory.filesystem, directory.lost = filesystem, False
        self._note_listing(directory, listing, listed_at)
        return len(listing.unknown) + (listing.cut is not None)

    def _note_worthless(self, directory: KnownDirectory, filesystem: Filesystem) -> None:
        log.warning(
            "%s: directory times prove nothing on this filesystem; all directories are listed within relist_interval, "
            "and those of busy groups in every poll",
            shown(directory.path or b"."),
        )
        for other in self.snapshot.directories.values():
            if other.depth == NAME_DEPTH and other.filesystem is filesystem:
                interval = self._schedule.listing_interval(
                    NAME_DEPTH, other.path, times_prove=False
                )
                other.list_at = min(other.list_at, self._clock.monotonic() + interval)

    def _note_listing(
        self, directory: KnownDirectory, listing: Directory, listed_at: float
    ) -> None:
        now, times = self._clock.monotonic(), (listing.mtime_ns, listing.ctime_ns)
        directory.trouble = None
        directory.passed_over = self._passed_over(directory, listing)
        if directory.path == ROOT and (directory.shown is None or directory.shown.times != times):
            directory.shown, directory.shown_at = Child(0, times), now
        if listing.cut is not None:
            directory.racy = True
            directory.trouble = f"cannot be listed to its end: {listing.cut}"
            return
        racy = is_racy(
            times,
            seen_at=listed_at,
            known_for=now - directory.shown_at if _is_as_shown(directory, listing) else 0.0,
            not_before=self._changed_after.get(directory.path, NEVER),
            settle=self._settle,
        )
        if not racy:
            self._changed_after.pop(directory.path, None)
        directory.racy = racy or bool(listing.unknown)
        directory.listed_at = now

    def _filesystem(self, listing: Directory) -> Filesystem:
        known = self._filesystems.get(listing.device)
        if known is None:
            known = self._filesystems[listing.device] = Filesystem()
        return known

    def _passed_over(
        self, directory: KnownDirectory, listing: Directory
    ) -> dict[bytes, str] | None:
        if not (listing.unknown or listing.others):
            return None

        def leads_away(name: bytes) -> bool:
            if name in (directory.passed_over or NOTHING):
                return True
            try:
                target = self._tree.link_target(directory.path, name)
            except OSError:
                return True
            return target not in listing.subdirectories and target not in listing.others

        return passed_over(listing, self._is_ignored, leads_away) or None

    def _miss(self, directory: KnownDirectory, names: Set[bytes]) -> None:
        now = self._clock.monotonic()
        counts = now - directory.missed_at > APART
        for name in names:
            directory.children[name] = max(1, directory.children[name] + counts)
        if counts:
            directory.missed_at = now

    def _meet_directory(
        self,
        path: bytes,
        child: Child,
        parent: KnownDirectory,
        is_news: bool,
        filesystem: Filesystem,
    ) -> None:
        now = self._clock.monotonic()
        known = self.snapshot.directories.get(path)
        if known is None:
            known = self.snapshot.directories[path] = KnownDirectory(path, parent.depth + 1)
            if is_news:
                known.changed_at = now
        if child.times is None:
            known.racy = True  # It cannot be looked at: listing it tells why.
            return
        filesystem.meet_times(child.times)
        before, known.shown = known.shown, child
        if before is not None and not filesystem.meet_again(before, child):
            filesystem.judge(path, now, self._settle)
            return
        filesystem.clear(path)
        known.racy, known.shown_at = True, now
        if before is not None:
            self._changed_after[path] = self._clock.time() - (now - parent.listed_at)

    def _meet_runs(
        self, name: KnownDirectory, found: Mapping[bytes, Child], filesystem: Filesystem
    ) -> None:
        self._listings += 1
        filesystem.meet_numbers(name.path, found)
        changed = NEVER < name.listed_at < name.shown_at and len(found) <= FEW
        above, numbered = join(name.path, b""), filesystem.entry_numbers.prove
        for run_id, child in found.items():
            run = self._meet_run(above + run_id, child.inode if numbered else -self._listings)
            if changed:
                run.look_at = NEVER

    def _meet_run(self, path: bytes, number: int) -> KnownRun:
        run = self.snapshot.runs.get(path)
        if run is None:
            run = self.snapshot.runs[path] = KnownRun(path, self._clock.time())
        if run.inode != number:
            # Another directory under the same name: nothing that is known of its file holds. Where nobody tells whether
            # it is another one, what is held of it is opened anew by its path.
            if run.inode > 0 and number > 0:
                run.racy, run.look_at = True, NEVER
                self.renumbered.add(path)
            run.inode = number
        return run


def _is_as_shown(directory: KnownDirectory, listing: Directory) -> bool:
    """Whether a directory's own times, right before it was listed, were those that its parent's listing showed."""
    shown = directory.shown
    return shown is not None and shown.times == (listing.mtime_ns, listing.ctime_ns)
