"""What published jobs say of the tree, so that a new leader reads only what changed since."""

from __future__ import annotations

from jobcache.schema.job import FINGERPRINT
from jobcache_refresher.clock import Clock
from jobcache_refresher.records import Fields, Record
from jobcache_refresher.scan.reading import beat_of
from jobcache_refresher.scan.snapshot import KnownRun, Snapshot
from jobcache_refresher.scan.tree import Fingerprint

UNKNOWN = Fingerprint(0, 0, 0, 0)
"""Equal to no file's."""


class RecalledTree:
    """What published jobs say of the tree, so that a new leader reads only what changed since.

    Args:
        clock: what time it is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._snapshot = Snapshot()

    def begin(self) -> None:
        """Forget everything."""
        self._snapshot = Snapshot()

    def move(self, path: bytes, record: Record | None) -> None:
        """Take in that a job was published, or is not any more (None)."""
        if record is not None:
            _recall(self._snapshot, path, record.fields)
        elif path in self._snapshot.runs:
            # Its directory may still be there, and become a job again.
            self._snapshot.runs[path] = KnownRun(path, self._clock.time())

    def take(self) -> Snapshot:
        """Hand the snapshot over; begins anew."""
        snapshot, self._snapshot = self._snapshot, Snapshot()
        return snapshot


def _recall(snapshot: Snapshot, path: bytes, fields: Fields) -> None:
    fingerprint = Fingerprint.parse(fields.get(FINGERPRINT, b""))
    run = snapshot.expect(path, 0.0)
    run.racy = fingerprint is None
    run.fingerprint = fingerprint or UNKNOWN
    run.changed_at = run.fingerprint.mtime_ns / 1e9
    run.beat = beat_of(fields)
    run.log.recall(fields)
