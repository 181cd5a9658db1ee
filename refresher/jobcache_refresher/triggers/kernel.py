"""The kernel's side of inotify: an instance, the events that each kind of directory is watched for, what they mean.

Only this module and ``inotify`` import watchdog, which the extra ``refresher`` brings; ``hints`` imports them where
events are wanted.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
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
_VANISHED = InotifyConstants.IN_DELETE | MOVED_AWAY
ROOT_LOST = (
    InotifyConstants.IN_DELETE_SELF | InotifyConstants.IN_MOVE_SELF | InotifyConstants.IN_UNMOUNT
)
EVENTS_LOST = InotifyConstants.IN_Q_OVERFLOW
WATCH_ENDED = InotifyConstants.IN_IGNORED
ALWAYS_HEARD = IS_DIRECTORY | ROOT_LOST | EVENTS_LOST | WATCH_ENDED
"""Events that count whatever the name of the file is."""

_HOW = (
    InotifyConstants.IN_ONLYDIR | InotifyConstants.IN_DONT_FOLLOW | InotifyConstants.IN_EXCL_UNLINK
)
_BRANCH_MASK = APPEARED | _VANISHED | _HOW
_RUN_MASK = (
    InotifyConstants.IN_CLOSE_WRITE | InotifyConstants.IN_MOVED_TO | _VANISHED | _HOW
)  # neither create nor modify: an open("w") that writes is one event, when it closes
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
