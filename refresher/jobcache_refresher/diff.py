"""What must be written so that Redis says what the scan found. Pure.

The difference is per job: fields to set and to drop, and the index entries that the job leaves and enters, as
``jobcache.index`` derives them from the fields before and after.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jobcache.codec import FINGERPRINT, decode_standing
from jobcache.ids import JobId
from jobcache.index import Entry, index_entries
from jobcache.models import ChangeKind
from jobcache_refresher.records import Fields, Record, Records


@dataclass(frozen=True, slots=True)
class Operation:
    """One job's change, to be applied in one step."""

    path: bytes
    kind: ChangeKind
    expected_revision: bytes
    """The revision the hash must be at; empty for no hash."""
    fields: Fields
    """All fields after the change."""
    set_fields: Fields
    dropped_fields: tuple[bytes, ...]
    removed: frozenset[Entry]
    added: frozenset[Entry]
    visible: bool
    """Whether a reader can see a difference."""


def diff(
    records: Records, found: Iterable[tuple[bytes, Fields]], gone: Iterable[bytes]
) -> Iterator[Operation]:
    """Operations that take the records to what was found and what is gone."""
    for path, fields in found:
        record = records.get(path)
        if record is None:
            yield put(path, None, fields)
        elif record.fields != fields:
            yield put(path, record, fields)
    for path in gone:
        record = records.get(path)
        if record is not None:
            yield _delete(path, record)


def put(path: bytes, record: Record | None, fields: Fields) -> Operation:
    """The operation that publishes a job, over what the record says is published."""
    old = record.fields if record else {}
    entries_before = _entries(path, record) if record else frozenset()
    entries_after = index_entries(JobId.from_path(path), decode_standing(fields))
    set_fields = {name: value for name, value in fields.items() if old.get(name) != value}
    dropped = tuple(name for name in old if name not in fields)
    return Operation(
        path=path,
        kind=ChangeKind.MODIFIED if record else ChangeKind.ADDED,
        expected_revision=record.revision if record else b"",
        fields=fields,
        set_fields=set_fields,
        dropped_fields=dropped,
        # An entry that only moves is overwritten by the one that is added.
        removed=_without_moved(entries_before, entries_after),
        added=entries_after - entries_before,
        visible=bool(dropped or set_fields.keys() - {FINGERPRINT}),
    )


def _delete(path: bytes, record: Record) -> Operation:
    return Operation(
        path=path,
        kind=ChangeKind.DELETED,
        expected_revision=record.revision,
        fields={},
        set_fields={},
        dropped_fields=(),
        removed=_entries(path, record),
        added=frozenset(),
        visible=True,
    )


def _entries(path: bytes, record: Record) -> frozenset[Entry]:
    return index_entries(JobId.from_path(path), decode_standing(record.fields))


def _without_moved(before: frozenset[Entry], after: frozenset[Entry]) -> frozenset[Entry]:
    kept = {entry.key for entry in after}
    return frozenset(entry for entry in before if entry.key not in kept)
