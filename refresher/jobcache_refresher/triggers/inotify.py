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
import resource
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from watchdog.observers.inotify_c import InotifyEvent, WatchDescriptor

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
    ROOT_LOST,
    WATCH_ENDED,
    Inotify,
    mask_of,
)

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


class WatchError(Exception):
    """No events, or no more of them: the message says why."""


class Watcher:
    """Watches a status directory down to its runs.

    Nothing that it says is more than a hint. ``drain`` it when ``wake`` was called, and whenever the tree is looked at
    anyway. A watcher with a ``failure`` stays silent from then on: stop it, and start another.

    Args:
        root: the status directory.
        wake: called, in another thread, when there is something to drain or the watcher failed.
    """

    def __init__(self, root: bytes | str, wake: Callable[[], None]) -> None:
        self.failure: str | None = None
        """Why there are no more events, in one line."""
        self._root = os.fsencode(os.path.abspath(root))
        self._identity: tuple[int, int] | None = None
        self._wake = wake
        self._lock = threading.Lock()
        self._ready = Dirty()
        self._stopping = threading.Event()
        self._events: SimpleQueue[InotifyEvent | None] = SimpleQueue()
        self._inotify: Inotify | None = None
        self._thread: threading.Thread | None = None
        # From here on the thread's own.
        self._pending = Dirty()
        self._lost = False
        self._not_before = float("-inf")
        self._paths: dict[WatchDescriptor, bytes] = {}
        self._descriptors: dict[bytes, WatchDescriptor] = {}
        self._below: dict[bytes, set[bytes]] = {}

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

    def drain(self) -> Dirty:
        """What became dirty since the last call. Looks whether the root is still the directory that is watched."""
        if self.failure is None:
            try:
                if _identity(self._root) != self._identity:
                    self._fail(self._about_root("is another directory than the one watched"))
            except OSError as error:
                self._fail(self._about_root(_strerror(error)))
        with self._lock:
            drained, self._ready = self._ready, Dirty()
        return drained

    @property
    def watched(self) -> int:
        """How many directories are watched."""
        return len(self._paths)

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
            return Inotify(self._receive)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            raise WatchError(
                f"inotify instances ran out: raise {_sysctl('max_user_instances')}"
            ) from None

    # What the kernel says: watchdog's thread

    def _receive(self, event: InotifyEvent | None) -> None:
        if event is None or event.mask & ALWAYS_HEARD or event.name == METADATA:
            if self._events.qsize() > MOST_WAITING and event is not None:
                self._lost = True
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
        if self._lost:
            self._lost = False
            log.warning("inotify lost events below %a: looking at everything", self._root)
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
            self._lost = True
            return
        path = self._paths.get(event.wd)
        if path is None:
            return
        if path == ROOT and mask & (ROOT_LOST | WATCH_ENDED):
            raise WatchError(self._about_root("vanished"))
        if mask & WATCH_ENDED:
            self._forget(event.wd, path)
        elif _depth(path) == RUN_DEPTH:
            if event.name == METADATA:
                self._pending.runs.add(path)
        elif mask & IS_DIRECTORY:
            self._pending.directories.add(path)
            below = join(path, event.name)
            if mask & APPEARED:
                self._watch(below)
            elif mask & MOVED_AWAY:
                self._unwatch(below)

    # Watches

    def _watch_all(self) -> None:
        """Watch every directory anew, and no other. A directory keeps its descriptor, wherever it is now."""
        before = self._paths
        self._paths, self._descriptors, self._below = {}, {}, {}
        self._watch(ROOT)
        for descriptor in before.keys() - self._paths.keys():
            self._instance.unwatch(descriptor)
        self._pending = Dirty(resync=True)

    def _watch(self, path: bytes) -> None:
        """Watch a directory, then everything below it; all of it is dirty.

        A directory is listed after it is watched, so that whatever is not in the list comes as an event.
        """
        if self._stopping.is_set():
            return
        depth = _depth(path)
        full = join(self._root, path) if path else self._root
        (self._pending.runs if depth == RUN_DEPTH else self._pending.directories).add(path)
        try:
            self._remember(self._instance.watch(full, mask_of(path, depth)), path)
            names = _subdirectories(full) if depth < RUN_DEPTH else ()
        except OSError as error:
            if path == ROOT or error.errno in LIMITS:
                raise
            return  # gone again, or closed to this user: the scan will tell
        for name in names:
            self._watch(join(path, name))

    def _remember(self, descriptor: WatchDescriptor, path: bytes) -> None:
        before = self._paths.get(descriptor)
        if before is not None and before != path:
            self._forget(descriptor, before)
        self._paths[descriptor] = path
        self._descriptors[path] = descriptor
        if path != ROOT:
            self._below.setdefault(_parent(path), set()).add(path)

    def _forget(self, descriptor: WatchDescriptor, path: bytes) -> None:
        del self._paths[descriptor]
        if self._descriptors.get(path) != descriptor:
            return  # another directory bears the name by now
        del self._descriptors[path]
        self._below.pop(path, None)
        siblings = self._below.get(_parent(path))
        if siblings is not None:
            siblings.discard(path)

    def _unwatch(self, path: bytes) -> None:
        for below in self._below.pop(path, ()):
            self._unwatch(below)
        descriptor = self._descriptors.get(path)
        if descriptor is not None:
            self._forget(descriptor, path)
            self._instance.unwatch(descriptor)

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
        if error.errno == errno.ENOSPC:
            return (
                f"inotify watches ran out after {self.watched} directories: "
                f"raise {_sysctl('max_user_watches')}"
            )
        if error.errno == errno.EMFILE:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return (
                f"file descriptors ran out: raise the limit of open files (ulimit -n, now {limit})"
            )
        return self._about_root(_strerror(error))

    def _about_root(self, what: str) -> str:
        return f"status_dir={self._root.decode('utf-8', 'backslashreplace')!r}: {what}"


def _depth(path: bytes) -> int:
    return path.count(b"/") + 1 if path else 0


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


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


def _sysctl(name: str) -> str:
    try:
        with open(f"/proc/sys/fs/inotify/{name}", encoding="ascii") as file:
            return f"fs.inotify.{name} (now {file.read().strip()})"
    except OSError:
        return f"fs.inotify.{name}"
