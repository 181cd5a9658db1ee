"""What is to be looked at next: by schedule, because a client asked, or because inotify told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from jobcache.keys import Keys
from jobcache_refresher.clock import Clock
from jobcache_refresher.publish.server import Server
from jobcache_refresher.reconcile import Wanted
from jobcache_refresher.requests import RequestInbox, Requests
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.settings import Settings
from jobcache_refresher.watching.dirty import Dirty
from jobcache_refresher.watching.lookout import Lookout

RELAXED = 3.0
"""Poll intervals between two polls while inotify tells of changes."""
SECOND_LOOK = 0.05
"""Seconds after which what inotify showed to be missing is looked for again."""
SECOND_LOOKS = 5
"""How often it is at most, before it is left to the next poll."""


@dataclass(frozen=True, slots=True)
class Errand:
    """One refresh to be made, and where it came from."""

    scope: Scope
    wanted: Wanted
    began: float
    """Monotonic time."""
    requests: Requests
    dirty: Dirty


class Agenda:
    """Gathers requests and events, and says which refresh is due. For the one thread that refreshes.

    Args:
        settings: intervals and mode.
        server: where requests are read.
        keys: of which namespace.
        wake: called, in other threads, when something came.
        clock: what time it is.
    """

    def __init__(
        self,
        settings: Settings,
        server: Server,
        keys: Keys,
        wake: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._inbox = RequestInbox(server, keys, wake)
        self._lookout = Lookout(settings.status_dir, settings.mode, wake, clock)
        self._dirty = Dirty()
        self._missed: dict[bytes, int] = {}
        """What hints showed to be missing, and how often more it is looked for before the next poll."""
        self._relist_next = True
        self._next_poll = float("-inf")

    def begin(self, position: bytes | None) -> None:
        """Begin with a look at everything, and with the requests after a position."""
        self._inbox.open(position)
        self._relist_next = True

    def suspend(self) -> None:
        """Watch no longer, for as long as another refresher leads."""
        self._lookout.close()

    def forget(self) -> None:
        """Drop what was asked for and told of: whoever leads sees to it, and ``begin`` takes up what is left."""
        self._inbox.suspend()
        self._dirty = Dirty()
        self._missed = {}

    def stop(self) -> None:
        """Read no more requests than those under way."""
        self._inbox.stop()

    def join(self) -> None:
        """Wait for the threads that gather."""
        self._lookout.close()
        self._inbox.join()

    def next(self) -> Errand | None:
        """The refresh that is due now, or None."""
        requests = self._inbox.drain()
        self._dirty.add(self._lookout.drain())
        scope = self._due(requests)
        if scope is None:
            return None
        dirty, self._dirty = self._dirty, Dirty()
        wanted = Wanted(
            hints=frozenset(
                requests.invalidated | dirty.runs | dirty.directories | self._missed.keys()
            ),
            dropped=frozenset(requests.deleted),
            release=requests.release,
            audit=requests.audit,
            position=requests.position.decode(),
        )
        return Errand(scope, wanted, self._clock.monotonic(), requests, dirty)

    def failed(self, errand: Errand) -> None:
        """It was not made: all of it stays to be done."""
        self._inbox.put_back(errand.requests)
        self._dirty.add(errand.dirty)

    def done(
        self,
        errand: Errand,
        *,
        believed: bool,
        in_doubt: Callable[[Iterable[bytes]], Iterable[bytes]],
    ) -> None:
        """It was made.

        Args:
            errand: what was.
            believed: whether the status directory could be believed; if not, everything is looked at next, since nobody
                knows what happened meanwhile.
            in_doubt: tells which of some paths lack something that must be observed once more. The next poll is far.
        """
        if not believed:
            self.failed(errand)
        looks = {path: left - 1 for path, left in self._missed.items() if left > 1}
        looks.update(dict.fromkeys(errand.dirty.runs | errand.dirty.directories, SECOND_LOOKS))
        self._missed = {path: looks[path] for path in in_doubt(looks)}
        self._relist_next = not believed
        if errand.scope is not Scope.HINTS:
            self._next_poll = errand.began + self._poll_interval

    @property
    def pause(self) -> float:
        """For how many seconds nothing is due, unless something comes."""
        pause = max(0.0, self._next_poll - self._clock.monotonic())
        return min(pause, SECOND_LOOK) if self._missed else pause

    @property
    def description(self) -> dict[str, str]:
        """The mode in effect, as ``meta`` tells it."""
        return {
            "mode": self._lookout.mode,
            "mode_reason": self._lookout.reason,
            "poll_interval": f"{self._poll_interval:g}",
        }

    @property
    def _poll_interval(self) -> float:
        relaxed = self._lookout.mode == "watchdog"
        return self._settings.poll_interval * (RELAXED if relaxed else 1.0)

    def _due(self, requests: Requests) -> Scope | None:
        everything = requests.refresh or requests.release or self._dirty.resync
        if everything or self._relist_next:
            return Scope.RELIST
        if requests.audit or self._clock.monotonic() >= self._next_poll:
            return Scope.POLL
        return Scope.HINTS if requests.position or self._dirty or self._missed else None
