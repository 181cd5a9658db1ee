"""(d) at random moments, in the middle of everything."""

from __future__ import annotations

import time

from tests.faults.oracle.faults import UNNOTICED
from tests.faults.oracle.indexes import index_faults
from tests.faults.oracle.snapshot import take_snapshot
from tests.faults.oracle.watcher import Watcher


class Auditor(Watcher):
    """Proves the indexes again and again."""

    interval = 0.25

    def look(self) -> None:
        place = self.place
        held = take_snapshot(self.redis, place.keys)
        place.journal.count("audits")
        faults = index_faults(held)
        if faults and not place.world.loss_explains(time.time(), UNNOTICED):
            place.journal.violate("d", "; ".join(faults[:4]))
