"""(b) by the change feed: whatever is deleted was removed, and nothing goes while the tree cannot be believed."""

from __future__ import annotations

import os
from typing import Any

from tests.faults.oracle.faults import HIDES
from tests.faults.oracle.place import Place
from tests.faults.oracle.watcher import Watcher


class Feed(Watcher):
    """Reads the feed as it grows."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._position: bytes = b"0"

    def look(self) -> None:
        reply: Any = self.redis.execute_command(
            b"XREAD", b"COUNT", 200, b"STREAMS", self.place.keys.changes, self._position
        )
        for _, entries in reply or ():
            for position, flat in entries:
                self._position = position
                fields = dict(zip(flat[::2], flat[1::2], strict=True))
                if fields.get(b"change") == b"deleted":
                    self._judge(int(position.split(b"-")[0]) / 1000, fields[b"id"])

    def _judge(self, at: float, path: bytes) -> None:
        world, journal = self.place.world, self.place.journal
        names: Any = tuple(os.fsdecode(path).split("/"))
        journal.count("deletions")
        if not world.was_away(names, at):
            journal.violate(
                "b", f"deleted though it was on disk: {path!r}, at {at - journal.began:.3f} s"
            )
        hidden_since = world.disbelieved_since(HIDES, at)
        if hidden_since is not None and not world.was_client_deletion(names):
            journal.violate(
                "b",
                f"deleted while the status directory cannot be believed, for "
                f"{at - hidden_since:.3f} s then: {path!r}",
            )
