"""What published jobs say of the tree, so that a new leader reads only what changed since."""

from __future__ import annotations

from jobcache.schema.job import FINGERPRINT
from jobcache_refresher.clock import Clock
from jobcache_refresher.records import Fields, Record
from jobcache_refresher.scan import identity
from jobcache_refresher.scan.reading import beat_of
from jobcache_refresher.scan.snapshot import KnownRun, Snapshot
from jobcache_refresher.scan.tree import Fingerprint

UNKNOWN = Fingerprint(0, 0, 0, 0)
"""Equal to no file's."""


class RecalledTree:
    """What published jobs say of the tree, so that a new leader reads only what changed since.

    Args:
        clock: what time it is.
        tag: names the way in which files are read now. What was read in another way is read anew by and by.
    """

    def __init__(self, clock: Clock, tag: bytes) -> None:
        self._clock = clock
        self._tag = tag
        self._snapshot = Snapshot()

    def begin(self) -> None:
        """Forget everything."""
        self._snapshot = Snapshot()

    def move(self, path: bytes, record: Record | None) -> None:
        """Take in that a job was published, or is not any more (None)."""
        if record is not None:
            self._recall(path, record.fields)
        elif path in self._snapshot.runs:
            # Its directory may still be there, and become a job again.
            self._snapshot.runs[path] = KnownRun(path, self._clock.time())
            self._snapshot.outdated.discard(path)

    def take(self) -> Snapshot:
        """Hand the snapshot over; begins anew."""
        snapshot, self._snapshot = self._snapshot, Snapshot()
        return snapshot

    def _recall(self, path: bytes, fields: Fields) -> None:
        read = identity.decode(fields.get(FINGERPRINT, b""))
        run = self._snapshot.expect(path, 0.0)
        run.racy = read.racy
        run.fingerprint = read.fingerprint or UNKNOWN
        run.changed_at = run.fingerprint.mtime_ns / 1e9
        run.beat = beat_of(fields)
        run.log.recall(fields)
        if read.tag == self._tag:
            self._snapshot.outdated.discard(path)
        else:
            self._snapshot.outdated.add(path)
