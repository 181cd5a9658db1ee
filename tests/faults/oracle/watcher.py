"""A thread that looks again and again, and takes a server that fails for granted."""

from __future__ import annotations

import threading

from redis import Redis
from redis.exceptions import RedisError

from tests.faults.oracle.place import Place


class Watcher(threading.Thread):
    """Calls ``look`` until it is ended; a failing server ends a look, anything else is a violation."""

    interval = 0.05

    def __init__(self, place: Place) -> None:
        super().__init__(name=f"oracle-{type(self).__name__.lower()}", daemon=True)
        self.place = place
        self.redis: Redis = place.server.client()
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self.interval):
            try:
                self.look()
            except (RedisError, OSError):
                self.lost_sight()
            except Exception as bug:
                self.place.journal.violate("oracle", f"{self.name} failed: {bug!r}")
                return
        self.redis.close()

    def look(self) -> None:
        raise NotImplementedError

    def lost_sight(self) -> None:
        """The server failed: a connection may have missed something."""

    @property
    def is_over(self) -> bool:
        return self._ended.is_set()

    def end(self) -> None:
        self._ended.set()
        self.join()
