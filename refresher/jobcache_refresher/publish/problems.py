"""The hash ``problems``, which readers are told of what is not read."""

from __future__ import annotations

from collections.abc import Mapping

from redis.exceptions import ResponseError

from jobcache.schema.keys import Keys
from jobcache.schema.steps import steps
from jobcache_refresher.publish.server import Server
from jobcache_refresher.publish.store import Store

PATHS_PER_STEP = 100


class PublishedProblems:
    """Keeps the hash as it must be, by difference.

    Args:
        server: where it lies.
        store: runs fenced scripts on it.
        keys: its name.
    """

    def __init__(self, server: Server, store: Store, keys: Keys) -> None:
        self._server = server
        self._store = store
        self._key = keys.problems
        self._known: Mapping[bytes, bytes] = {}
        """What Redis holds, as far as is known."""

    def read(self) -> Mapping[bytes, bytes]:
        """What Redis holds: JSON by path."""
        try:
            flat = self._server.ask(b"HGETALL", self._key)
        except ResponseError:  # of a wrong type
            flat = ()
        self._known = dict(zip(flat[::2], flat[1::2], strict=True))
        return self._known

    def write(self, wanted: Mapping[bytes, bytes]) -> None:
        """Have Redis hold this and nothing else.

        Raises:
            FencedError, EpochError: the cache is no longer this refresher's, or no longer the one it knew.
        """
        known, self._known = self._known, {}  # until it is known that all was written
        if self._count() != len(known):
            self._store.write("clear", (), (self._key,))
            known = {}
        changed = [pair for pair in wanted.items() if known.get(pair[0]) != pair[1]]
        for some in steps(changed, PATHS_PER_STEP):
            self._store.write(
                "set_fields", (self._key,), (0, *(part for pair in some for part in pair))
            )
        for paths in steps(known.keys() - wanted.keys(), PATHS_PER_STEP):
            self._store.write("set_fields", (self._key,), (len(paths), *paths))
        self._known = wanted

    def _count(self) -> int | None:
        """How many paths Redis holds; None when the key is of a wrong type."""
        try:
            count: int = self._server.ask(b"HLEN", self._key)
        except ResponseError:
            return None
        return count
