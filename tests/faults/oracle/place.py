"""Where a run takes place: what every watcher needs to find the cache."""

from __future__ import annotations

from dataclasses import dataclass

from jobcache.schema.keys import Keys
from tests.faults.oracle.journal import Journal
from tests.faults.oracle.server import FragileServer
from tests.faults.oracle.stalls import Stalls
from tests.faults.oracle.world import World

NAMESPACE = "oracle"


@dataclass(frozen=True, slots=True)
class Place:
    """One server with one namespace, the truth beside it, and the book of what happened."""

    server: FragileServer
    world: World
    journal: Journal
    stalls: Stalls
    keys: Keys
    status_dir: str
    """As the refreshers are told."""
