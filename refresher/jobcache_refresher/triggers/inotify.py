"""Hints from inotify: which runs and directories of a local status directory have just changed.

Of watchdog (7.1) this takes the inotify instance and the thread that reads it, not the observer on top. The observer
- rebuilds its watches after a queue overflow, and tells nobody that events were lost;
- passes over a directory that it cannot watch for want of watches, without a word;
- holds every event back for 0.5 s behind a directory that was moved out, and goes on watching that one;
- watches everything below a run as well: checkpoints, ``wandb/``;
- warns, in the thread that must not die, when it meets a directory twice, as it does with every ``makedirs``.
Of 18,000 runs made by four writers it saw all, for three times the CPU of this, or, with those warnings printed,
overflowed three times and saw 3,700.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue

from watchdog.observers.inotify_c import InotifyEvent, Mask, WatchDescriptor

from jobcache.schema.job import METADATA_NAME
from jobcache_refresher.scan.snapshot import ROOT, RUN_DEPTH, join
from jobcache_refresher.scan.tree import is_directory
from jobcache_refresher.triggers.dirty import Dirty
from jobcache_refresher.triggers.kernel import (
    ALWAYS_HEARD,
    APPEARED,
    EVENTS_LOST,
    IS_DIRECTORY,
    LIMITS,
    MOVED_AWAY,
    RIGHTS_CHANGED,
    ROOT_LOST,
    UNMOUNTED,
    WATCH_ENDED,
    Inotify,
    explain_limit,
    mask_of,
    sysctl,
)
from jobcache_refresher.triggers.mounts import Mount, MountAlarm, events_are_complete, mounts_below
from jobcache_refresher.triggers.watches import Watches

log = logging.getLogger(__name__)

METADATA = METADATA_NAME.encode()

QUIET = 0.004
"""Seconds without an event after which what has changed is handed over."""
LONGEST = 0.04
"""Seconds after which it is handed over while events still come."""
SPACING = 0.05
"""Least seconds between two times that something is handed over: each costs a refresh."""
MOST_WAITING = 100_000
"""Events beyond which looking at everything is cheaper than holding them."""
STOPPING_TIME = 3.0
"""Seconds that a thread may take to end."""
NUDGE = InotifyEvent(WatchDescriptor(-1), Mask(0), 0, b"")
"""An event of no directory, which has the thread look whether there is something to do."""
LOST = "inotify lost events"
"""Why every directory must be watched anew after that."""


class WatchError(Exception):
    """No events, or no more of them: the message says why."""


class Watcher:
    """Watches a status directory down to its runs.

    Nothing that it says is more than a hint. ``drain`` it when ``wake`` was called, and whenever the tree is looked at
    anyway. A watcher with a ``failure`` stays silent from then on: stop it, and start another.

    Args:
        root: the status directory.
        wake: called, in another thread, when there is something to drain or the watcher failed.
        open_inotify: opens an instance that hands its events to a function.
        most_waiting: events beyond which looking at everything is cheaper than holding them.
    """

    def __init__(
        self,
        root: bytes | str,
        wake: Callable[[], None],
        open_inotify: Callable[[Callable[[InotifyEvent | None], None]], Inotify] = Inotify,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self.failure: str | None = None
        """Why there are no more events, in one line."""
        self._root = os.fsencode(os.path.abspath(root))
        self._identity: tuple[int, int] | None = None
        self._wake = wake
        self._lock = threading.Lock()
        self._ready = Dirty()
        self._stopping = threading.Event()
        self._events: SimpleQueue[InotifyEvent | None] = SimpleQueue()
        self._open_inotify = open_inotify
        self._most_waiting = most_waiting
        self._inotify: Inotify | None = None
        self._thread: threading.Thread | None = None
        self._mount_alarm = MountAlarm()
        self._mounts: Mapping[bytes, Mount] = {}
        """What was mounted below when every directory was watched last."""
        self._outdated = ""
        """Why every directory must be watched anew; empty if none must."""
        # From here on the thread's own.
        self._pending = Dirty()
        self._not_before = float("-inf")
        self._watches = Watches()

    # Lifecycle

    def start(self) -> None:
        """Watch every directory there is. What was changed before this returned is the caller's to look for.

        Afterwards there is a ``failure``, or the first ``drain`` asks for a resync.
        """
        try:
            self._identity = _identity(self._root)
            self._inotify = self._open()
            self._inotify.start()
            self._watch_all()
        except (OSError, WatchError) as error:
            self.failure = self._describe(error)
            return
        self._ready, self._pending = self._pending, Dirty()
        self._thread = threading.Thread(target=self._work, name="jobcache-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End both threads and every watch."""
        self._stopping.set()
        if self._inotify is not None:
            self._inotify.stop()
            self._inotify.join(STOPPING_TIME)
        if self._thread is not None:
            self._thread.join(STOPPING_TIME)
        self._mount_alarm.close()

    def drain(self) -> Dirty:
        """What became dirty since the last call.

        Looks for what inotify does not tell: whether the root is still the directory that is watched, and whether a
        filesystem was mounted over a directory or taken away.
        """
        if self.failure is None:
            try:
                if _identity(self._root) != self._identity:
                    self._fail(self._about_root("is another directory than the one watched"))
            except OSError as error:
                self._fail(self._about_root(_strerror(error)))
            self._look_for_mounts()
        with self._lock:
            drained, self._ready = self._ready, Dirty()
        return drained

    @property
    def watched(self) -> int:
        """How many directories are watched."""
        return len(self._watches)

    def _look_for_mounts(self) -> None:
        if self._mount_alarm.rings() and mounts_below(self._root) != self._mounts:
            self._outdated = "what is mounted changed"
            self._events.put(NUDGE)

    def _open(self) -> Inotify:
        # An instance takes three descriptors, and does not give the first back if it gets no others.
        spare: list[int] = []
        try:
            for _ in range(2):
                spare += os.pipe()
        finally:
            for descriptor in spare:
                os.close(descriptor)
        try:
            return self._open_inotify(self._receive)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            raise WatchError(
                f"inotify instances ran out: raise {sysctl('max_user_instances')}"
            ) from None

    # What the kernel says: watchdog's thread

    def _receive(self, event: InotifyEvent | None) -> None:
        if event is None or event.mask & ALWAYS_HEARD or event.name == METADATA:
            if self._events.qsize() > self._most_waiting and event is not None:
                self._outdated = LOST
            else:
                self._events.put(event)

    # What becomes of it: the watcher's thread

    def _work(self) -> None:
        try:
            while not self._stopping.is_set():
                if not self._gather():
                    break
                self._hand_over()
        except (OSError, WatchError) as error:
            self._fail(self._describe(error))
        finally:
            if not self._stopping.is_set():
                self._fail("inotify is no longer read")

    def _gather(self) -> bool:
        """Take events in until they pause; returns whether more can come."""
        event = self._events.get()
        ends = max(time.monotonic() + LONGEST, self._not_before)
        while event is not None:
            self._take(event)
            now = time.monotonic()
            if now >= ends:
                return True
            try:
                quiet_at = max(now + QUIET, self._not_before)
                event = self._events.get(timeout=min(quiet_at, ends) - now)
            except Empty:
                return True
        return False

    def _hand_over(self) -> None:
        if self._outdated:
            log.warning("%a: %s; looking at everything", self._root, self._outdated)
            self._outdated = ""
            self._watch_all()
        if self._pending:
            with self._lock:
                self._ready.add(self._pending)
            self._pending = Dirty()
            self._not_before = time.monotonic() + SPACING
            self._wake()

    def _take(self, event: InotifyEvent) -> None:
        mask = event.mask
        if mask & EVENTS_LOST:
            self._outdated = LOST
            return
        path = self._watches.path_of(event.wd)
        if path is None:
            return
        if path == ROOT and mask & (ROOT_LOST | WATCH_ENDED):
            raise WatchError(self._about_root("vanished"))
        if mask & WATCH_ENDED:
            self._watches.drop(event.wd)
        elif mask & UNMOUNTED:
            self._outdated = "a filesystem was unmounted"
        elif _depth(path) == RUN_DEPTH:
            if event.name == METADATA:
                self._pending.runs.add(path)
        elif mask & IS_DIRECTORY and event.name:
            self._take_directory(path, join(path, event.name), mask)

    def _take_directory(self, above: bytes, path: bytes, mask: int) -> None:
        if mask & RIGHTS_CHANGED:
            # It may be one that could not be watched or listed before. Any other is left alone: a chmod of every
            # directory of a large tree would have every run read again.
            is_run = _depth(path) == RUN_DEPTH
            if not (path in self._watches if is_run else self._watches.has_below(path)):
                self._watch(path)
            return
        self._pending.directories.add(above)
        if mask & MOVED_AWAY:
            for descriptor in self._watches.take(path):
                self._instance.unwatch(descriptor)
        if mask & (APPEARED | MOVED_AWAY):
            # Also when it was moved away: if two were exchanged, the other one is there now.
            self._watch(path)

    # Watches

    def _watch_all(self) -> None:
        """Watch every directory anew, and no other. A directory keeps its descriptor, wherever it is now."""
        before, self._watches = self._watches, Watches()
        self._mounts = mounts_below(self._root)
        self._watch(ROOT)
        for descriptor in before.descriptors - self._watches.descriptors:
            self._instance.unwatch(descriptor)
        self._pending = Dirty(resync=True)

    def _watch(self, path: bytes) -> None:
        """Watch a directory that may be there, then everything below it; all of it is dirty.

        A directory is listed after it is watched, so that whatever is not in the list comes as an event.
        """
        if self._stopping.is_set():
            return
        mount = self._mounts.get(path)
        if mount is not None and not events_are_complete(mount.fs_type):
            return  # no event comes from it, and a filesystem of a network may hang
        depth = _depth(path)
        full = join(self._root, path) if path else self._root
        names: list[bytes] = []
        try:
            self._watches.add(self._instance.watch(full, mask_of(path, depth)), path)
            if depth < RUN_DEPTH:
                names = _subdirectories(full)
        except OSError as error:
            if path == ROOT or error.errno in LIMITS:
                raise
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                return
            # Closed to this user: the scan will tell.
        (self._pending.runs if depth == RUN_DEPTH else self._pending.directories).add(path)
        for name in names:
            self._watch(join(path, name))

    @property
    def _instance(self) -> Inotify:
        assert self._inotify is not None
        return self._inotify

    # Failure

    def _fail(self, reason: str) -> None:
        if self.failure is None:
            self.failure = reason
            self._wake()

    def _describe(self, error: OSError | WatchError) -> str:
        if isinstance(error, WatchError):
            return str(error)
        return explain_limit(error, self.watched) or self._about_root(_strerror(error))

    def _about_root(self, what: str) -> str:
        return f"status_dir={self._root.decode('utf-8', 'backslashreplace')!r}: {what}"


def _depth(path: bytes) -> int:
    return path.count(b"/") + 1 if path else 0


def _identity(root: bytes) -> tuple[int, int]:
    status = os.stat(root)
    return status.st_dev, status.st_ino


def _subdirectories(full: bytes) -> list[bytes]:
    with os.scandir(full) as entries:
        return [entry.name for entry in entries if _is_directory(entry)]


def _is_directory(entry: os.DirEntry[bytes]) -> bool:
    try:
        return is_directory(entry)
    except OSError:
        return False  # the scan will tell


def _strerror(error: OSError) -> str:
    return error.strerror or str(error)
