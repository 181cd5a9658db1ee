"""What is to be looked at next: by schedule, because a client asked, or because inotify told.

Polls come as often with events as without. Many writes make no event: through a file that is kept open or mapped into
memory, through another name of the same file, on a filesystem that is mounted below. If polls came more rarely because
there are events, these would show later than in polling mode. Of 20,000 runs on a local disk, 400 of them live, polls
at the default interval cost 1.6 % of a core with events, against 1.1 % if two of three polls were left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from jobcache.schema import meta
from jobcache_refresher.clock import Clock
from jobcache_refresher.publish.deleter import Deleter
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.triggers.dirty import Dirty
from jobcache_refresher.triggers.hints import HintSource
from jobcache_refresher.triggers.requests import RequestInbox, Requests

SECOND_LOOK = 0.05
"""Seconds after which what inotify showed to be missing is looked for again."""
SECOND_LOOKS = 5
"""How often it is at most, before it is left to the next poll."""


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One scan to be made: what it is to look at, and who asked."""

    scope: Scope
    hints: frozenset[bytes] = frozenset()
    """Paths of runs to discover or read again, and of directories to list."""
    requests: Requests = field(default_factory=Requests)
    """What clients and operators asked for."""
    dirty: Dirty = field(default_factory=Dirty)
    """What events told of."""
    began: float = 0.0
    """Monotonic time at which it was taken, in seconds."""

    def at_least(self, scope: Scope) -> WorkItem:
        """The same work with a larger scope, if its own is smaller."""
        return replace(self, scope=max(self.scope, scope))


class WorkQueue:
    """Gathers requests and events, and says which refresh is due. For the one thread that refreshes.

    Args:
        poll_interval: seconds between two polls.
        inbox: reads requests.
        hint_source: listens to events.
        deleter: applies deletions that clients ask for.
        clock: what time it is.
    """

    def __init__(
        self,
        poll_interval: float,
        inbox: RequestInbox,
        hint_source: HintSource,
        deleter: Deleter,
        clock: Clock,
    ) -> None:
        self._poll_interval = poll_interval
        self._inbox = inbox
        self._hint_source = hint_source
        self._deleter = deleter
        self._clock = clock
        self._dirty = Dirty()
        self._missed: dict[bytes, int] = {}
        """What hints showed to be missing, and how often more it is looked for before the next poll."""
        self._relist_next = True
        self._next_poll = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether requests are read."""
        return self._inbox.is_open

    def open(self, position: bytes | None, deleted_position: bytes | None) -> None:
        """Read requests.

        Args:
            position: id of the last request that was seen to; by default that of the last there is.
            deleted_position: id of the last request to delete that was applied.
        """
        self._inbox.open(position, deleted_position)

    def look_at_everything(self) -> None:
        """Have the next scan look at everything."""
        self._relist_next = True

    def suspend(self) -> None:
        """Watch no longer, for as long as another refresher leads."""
        self._hint_source.close()

    def forget(self) -> None:
        """Drop what was asked for and told of: whoever leads sees to it, and ``open`` takes up what is left."""
        self._inbox.suspend()
        self._dirty = Dirty()
        self._missed = {}

    def stop(self) -> None:
        """Read no more requests than those under way."""
        self._inbox.stop()

    def close(self) -> None:
        """Watch no longer. A read of requests that is under way ends by itself, and nothing comes of it."""
        self._hint_source.close()

    def next(self, at_least: Scope = Scope.HINTS) -> WorkItem | None:
        """The scan that is due now, or None. With a larger scope than hints, one is always due."""
        requests = self._inbox.drain()
        self._dirty.add(self._hint_source.drain())
        scope = self._due(requests)
        if scope is None and at_least is Scope.HINTS:
            return None
        dirty, self._dirty = self._dirty, Dirty()
        hints = requests.invalidated | dirty.runs | dirty.directories | self._missed.keys()
        scope = at_least if scope is None else max(scope, at_least)
        return WorkItem(scope, frozenset(hints), requests, dirty, self._clock.monotonic())

    def failed(self, item: WorkItem) -> None:
        """It was not made: all of it stays to be done."""
        self._inbox.put_back(item.requests)
        self._dirty.add(item.dirty)

    def done(
        self,
        item: WorkItem,
        *,
        believed: bool,
        unconfirmed: Callable[[Iterable[bytes]], Iterable[bytes]],
    ) -> None:
        """It was made.

        Args:
            item: what was.
            believed: whether the status directory could be believed; if not, everything is looked at next, since nobody
                knows what happened meanwhile.
            unconfirmed: tells which of some paths lack something that must be observed once more, which need not wait
                for the next poll.
        """
        if not believed:
            self.failed(item)
        looks = {path: left - 1 for path, left in self._missed.items() if left > 1}
        looks.update(dict.fromkeys(item.dirty.runs | item.dirty.directories, SECOND_LOOKS))
        self._missed = {path: looks[path] for path in unconfirmed(looks)}
        self._relist_next = not believed
        if item.scope is not Scope.HINTS:
            self._next_poll = item.began + self._poll_interval

    @property
    def pause(self) -> float:
        """For how many seconds nothing is due, unless something comes."""
        pause = max(0.0, self._next_poll - self._clock.monotonic())
        return min(pause, SECOND_LOOK) if self._missed else pause

    @property
    def description(self) -> dict[str, str]:
        """The mode in effect, as ``meta`` tells it."""
        return {
            meta.MODE: self._hint_source.mode,
            meta.MODE_REASON: self._hint_source.reason,
        }

    def _due(self, requests: Requests) -> Scope | None:
        everything = requests.refresh or requests.release or self._dirty.resync
        if everything or self._relist_next:
            return Scope.RELIST
        if requests.audit or self._clock.monotonic() >= self._next_poll:
            return Scope.POLL
        hinted = requests.position or self._deleter.has_news or self._dirty or self._missed
        return Scope.HINTS if hinted else None
