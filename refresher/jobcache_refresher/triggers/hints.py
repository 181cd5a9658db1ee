"""How changes are noticed at the moment: by events where they can be had, by polling alone where they cannot."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobcache_refresher.clock import Clock
from jobcache_refresher.triggers.dirty import Dirty
from jobcache_refresher.triggers.mounts import choose_mode, fs_type_of

if TYPE_CHECKING:
    from jobcache_refresher.triggers.inotify import Watcher

log = logging.getLogger(__name__)

RETRY = 60.0
"""Seconds after which a watcher that failed is tried again, then twice as many after each try that fails."""
LONGEST_RETRY = 600.0
"""Most seconds until the next try: where watches run out, each sets all that can be had, and polls wait for it."""


def open_watcher(root: str | bytes, wake: Callable[[], None]) -> Watcher:
    """A watcher that was started. Raises whatever another version of watchdog raises when it is imported."""
    from jobcache_refresher.triggers.inotify import Watcher

    watcher = Watcher(root, wake)
    watcher.start()
    return watcher


class HintSource:
    """Keeps a watcher where one is of use, and says which mode is in effect and why. One thread uses it.

    Args:
        root: the status directory.
        asked: ``polling``, ``watchdog`` or ``auto``.
        wake: called, in another thread, when there are hints or the mode may have changed.
        clock: when to try again.
        fs_type: tells the filesystem type of a path, or None.
        open_watcher: gives a watcher that was started, or raises.
    """

    def __init__(
        self,
        root: str | bytes,
        asked: str,
        wake: Callable[[], None],
        clock: Clock = Clock(),  # noqa: B008 - immutable
        *,
        fs_type: Callable[[str | bytes], str | None] = fs_type_of,
        open_watcher: Callable[[str | bytes, Callable[[], None]], Watcher] = open_watcher,
    ) -> None:
        self.mode = "polling"
        """The mode in effect."""
        self.reason = ""
        """One line that says why, if it is not the mode asked for."""
        self._root = root
        self._asked = asked
        self._wake = wake
        self._clock = clock
        self._fs_type = fs_type
        self._open_watcher = open_watcher
        self._watcher: Watcher | None = None
        self._next_try = float("-inf")
        self._retry = RETRY

    def drain(self) -> Dirty:
        """What changed since the last call. Begins to watch, or tries again, where that is due.

        A watcher that began or ended asks for a resync.
        """
        if self._asked == "polling":
            return Dirty()
        if self._watcher is None:
            self._begin()
        if self._watcher is None:
            return Dirty()
        dirty = self._watcher.drain()
        if self._watcher.failure is not None:
            self._give_up(self._watcher.failure)
            return Dirty(resync=True)
        return dirty

    def close(self) -> None:
        """Watch no longer, until the next ``drain``."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None
            self._next_try = float("-inf")

    def _begin(self) -> None:
        if self._clock.monotonic() < self._next_try:
            return
        is_first = self._next_try == float("-inf")
        self._next_try = self._clock.monotonic() + self._retry
        self._retry = min(2 * self._retry, LONGEST_RETRY)
        mode, reason = choose_mode(self._asked, self._fs_type(self._root))
        if mode == "polling":
            if is_first:
                # Asked again and again, a network filesystem that hangs would hang the caller.
                self._next_try = float("inf")
            self._say(mode, reason)
            return
        try:
            watcher = self._open_watcher(self._root, self._wake)
        except Exception as error:  # whatever another version of watchdog raises
            self._say("polling", f"watchdog cannot be used: {error}")
            return
        if watcher.failure is not None:
            watcher.stop()
            self._say("polling", watcher.failure)
            return
        self._watcher = watcher
        self._retry = RETRY
        self._say(mode, reason)

    def _give_up(self, reason: str) -> None:
        self.close()
        self._next_try = self._clock.monotonic() + self._retry
        self._say("polling", reason)

    def _say(self, mode: str, reason: str) -> None:
        if (mode, reason) == (self.mode, self.reason):
            return
        self.mode, self.reason = mode, reason
        fell_back = mode == "polling"
        level = logging.WARNING if fell_back and self._asked == "watchdog" else logging.INFO
        log.log(level, "mode %s%s", mode, f": {reason}" if reason else "")
