"""What every index must hold, as the records say. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from jobcache.ids import JobId
from jobcache.models import JobStatus
from jobcache.schema import keys as names
from jobcache.schema.index import Entry, all_entries, index_entries, listings
from jobcache.schema.job import CHIPS, decode_indexed_fields
from jobcache_refresher.records import Fields, Records

MOVES = 1000
"""Records that may come, change or go between two counts, and as many again as there were."""

_STATUS = b"status"
_RUNNING = JobStatus.RUNNING.value.encode()


def entries_of(path: bytes, fields: Fields) -> list[Entry]:
    """Every member that a published job has in an index or a list of names."""
    return all_entries(JobId.from_path(path), decode_indexed_fields(fields))


class ExpectedSizes:
    """How many members every index and every list of names must have, kept up as records come and go.

    It is counted when it is first asked for, and nothing is kept up before.
    """

    def __init__(self) -> None:
        self._sizes: dict[bytes, int] | None = None
        self._named: Counter[tuple[bytes, bytes]] = Counter()
        """Jobs by list of names and name."""
        self._moves_left = 0
        """Moves after which counting anew costs less than keeping up."""
        self._running: dict[bytes, tuple[float, int]] = {}
        """Heartbeat and chips of the jobs that say they run."""

    def forget(self) -> None:
        """Count anew when it is asked for next."""
        self._sizes = None

    def sizes(self, records: Records) -> dict[bytes, int]:
        """Sizes by key without prefix; none is 0."""
        if self._sizes is None:
            self._sizes = self._count(records)
            self._moves_left = MOVES + len(records)
        return self._sizes

    def chips(self, since: float, without: Collection[bytes]) -> int:
        """Chips of the running jobs with a heartbeat since then (epoch seconds), but for some paths."""
        gone = sum(chips for beat, chips in self._beats(without) if beat >= since)
        return sum(chips for beat, chips in self._running.values() if beat >= since) - gone

    def move(self, path: bytes, before: Fields | None, after: Fields | None) -> None:
        """Take in that a record came, changed or went."""
        if self._sizes is None:
            return
        self._note_running(path, after)
        old, new = (fields[_STATUS] if fields else None for fields in (before, after))
        if old == new:
            return
        self._moves_left -= 1
        if self._moves_left < 0:
            self.forget()
            return
        if before is not None:
            self._add(self._sizes, path, before, -1)
        if after is not None:
            self._add(self._sizes, path, after, 1)

    def share(self, records: Records, paths: Iterable[bytes]) -> Counter[bytes]:
        """How many members some jobs have in each index."""
        known = ((path, records[path].fields) for path in paths if path in records)
        return Counter(entry.key for path, fields in known for entry in _indexed(path, fields))

    def _count(self, records: Records) -> dict[bytes, int]:
        self._named.clear()
        self._running.clear()
        # Counted by the standard library's C, as every job of a new leader comes by here before readers are served.
        together = Counter(
            (path.rpartition(b"/")[0], record.fields[_STATUS]) for path, record in records.items()
        )
        by_name: Counter[bytes] = Counter()
        by_group: Counter[tuple[bytes, bytes]] = Counter()
        for (parent, status), count in together.items():
            by_name[parent] += count
            by_group[parent.rpartition(b"/")[0], status] += count
        for path, record in records.items():
            if record.fields[_STATUS] == _RUNNING:
                self._note_running(path, record.fields)
        sizes: dict[bytes, int] = {}
        # What only the name and the run id tell apart stands in the same indexes, but for that of the name's runs.
        for (group, status), count in by_group.items():
            self._add(sizes, group + b"/-/-", {_STATUS: status}, count)
            sizes.pop(names.runs_index_of(group + b"/-"))
        for parent, count in by_name.items():
            sizes[names.runs_index_of(parent)] = count
        return sizes

    def _add(self, sizes: dict[bytes, int], path: bytes, fields: Fields, count: int) -> None:
        for entry in _indexed(path, fields):
            _add_to(sizes, entry.key, count)
        for one in listings(JobId.from_path(path)):
            name = (one.listing, one.member)
            before = self._named[name]
            self._named[name] += count
            if not self._named[name]:
                del self._named[name]
            _add_to(sizes, one.listing, (before + count > 0) - (before > 0))

    def _note_running(self, path: bytes, fields: Fields | None) -> None:
        if fields is not None and fields[_STATUS] == _RUNNING:
            beat = decode_indexed_fields(fields).heartbeat_at
            if beat is not None:
                self._running[path] = beat, int(fields.get(CHIPS, b"0"))
                return
        self._running.pop(path, None)

    def _beats(self, paths: Iterable[bytes]) -> Iterable[tuple[float, int]]:
        return (self._running[path] for path in paths if path in self._running)


def _indexed(path: bytes, fields: Fields) -> Iterable[Entry]:
    return index_entries(JobId.from_path(path), decode_indexed_fields(fields))


def _add_to(sizes: dict[bytes, int], key: bytes, count: int) -> None:
    size = sizes.get(key, 0) + count
    if size:
        sizes[key] = size
    else:
        sizes.pop(key, None)
