"""The kernel's side of inotify: an instance, the events that each kind of directory is watched for, what they mean.

Only this module and ``inotify`` import watchdog, which the extra ``refresher`` brings; ``hints`` imports them where
events are wanted.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import resource
from collections.abc import Callable

from watchdog.observers.inotify_c import (
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    WatchDescriptor,
    inotify_add_watch,
    inotify_rm_watch,
)

from jobcache_refresher.scan.snapshot import ROOT, RUN_DEPTH

log = logging.getLogger(__name__)

IS_DIRECTORY = InotifyConstants.IN_ISDIR
APPEARED = InotifyConstants.IN_CREATE | InotifyConstants.IN_MOVED_TO
MOVED_AWAY = InotifyConstants.IN_MOVED_FROM
RIGHTS_CHANGED = InotifyConstants.IN_ATTRIB
_VANISHED = InotifyConstants.IN_DELETE | MOVED_AWAY
ROOT_LOST = (
    InotifyConstants.IN_DELETE_SELF | InotifyConstants.IN_MOVE_SELF | InotifyConstants.IN_UNMOUNT
)
UNMOUNTED = InotifyConstants.IN_UNMOUNT
EVENTS_LOST = InotifyConstants.IN_Q_OVERFLOW
WATCH_ENDED = InotifyConstants.IN_IGNORED
ALWAYS_HEARD = IS_DIRECTORY | ROOT_LOST | EVENTS_LOST | WATCH_ENDED
"""Events that count whatever the name of the file is."""

_HOW = (
    InotifyConstants.IN_ONLYDIR | InotifyConstants.IN_DONT_FOLLOW | InotifyConstants.IN_EXCL_UNLINK
)
_BRANCH_MASK = APPEARED | _VANISHED | RIGHTS_CHANGED | _HOW
# Created, since a link(2) into place makes no other event. Not modified: that would be an event for every write to the
# log beside it, of every run. 1,000 such writes a second cost 3 % of a core, 10,000 cost 7 %, and the kernel keeps
# 16,384 events. A writer that keeps metadata.json open is seen by the polls, which come as often as without events.
_RUN_MASK = InotifyConstants.IN_CLOSE_WRITE | APPEARED | _VANISHED | RIGHTS_CHANGED | _HOW
_ROOT_MASK = (
    (_BRANCH_MASK & ~InotifyConstants.IN_DONT_FOLLOW)
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
)

LIMITS = frozenset({errno.ENOSPC, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""Error numbers that say that a limit of the system is reached."""


class Inotify(InotifyFD):
    """An inotify instance whose events all go to one place, followed by None when no more come."""

    def __init__(self, receive: Callable[[InotifyEvent | None], None]) -> None:
        super().__init__()
        os.set_inheritable(self._inotify_fd, False)
        self.name = "jobcache-inotify"
        self._receive = receive

    def run(self) -> None:
        try:
            super().run()
        except OSError as error:
            log.warning("inotify cannot be read: %s", error)
        finally:
            self._receive(None)

    def handle_event(self, event: InotifyEvent) -> None:
        self._receive(event)

    def watch(self, path: bytes, mask: int) -> WatchDescriptor:
        """Watch a directory; returns the descriptor, which is the same as before for one that is watched already."""
        # Not add_callback(): it takes EACCES for success, and keeps an object and a dict for every watch.
        descriptor = inotify_add_watch(self._inotify_fd, path, mask)
        if descriptor == -1:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return descriptor

    def unwatch(self, descriptor: WatchDescriptor) -> None:
        """Watch no longer; that a watch has ended by itself is no error."""
        inotify_rm_watch(self._inotify_fd, descriptor)


def mask_of(path: bytes, depth: int) -> int:
    """The events that a directory is watched for: the root, one above the runs, or a run."""
    if path == ROOT:
        return _ROOT_MASK
    return _RUN_MASK if depth == RUN_DEPTH else _BRANCH_MASK


def explain_limit(error: OSError, watched: int) -> str | None:
    """Which limit was reached with so many directories watched, and how to raise it; None if it was none."""
    if error.errno == errno.ENOSPC:
        return f"inotify watches ran out after {watched} directories: raise {sysctl('max_user_watches')}"
    if error.errno == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"file descriptors ran out: raise the limit of open files (ulimit -n, now {limit})"
    return None


def sysctl(name: str) -> str:
    """The name of a setting of inotify, with its present value if that can be read."""
    try:
        with open(f"/proc/sys/fs/inotify/{name}", encoding="ascii") as file:
            return f"fs.inotify.{name} (now {file.read().strip()})"
    except OSError:
        return f"fs.inotify.{name}"
