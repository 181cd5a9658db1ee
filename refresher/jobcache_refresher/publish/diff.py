"""What must be written so that Redis says what the scan found. Pure.

The difference is per job: fields to set and to drop, and the index entries that the job leaves and enters, as
``jobcache.schema.index`` derives them from the fields before and after.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jobcache.ids import JobId
from jobcache.models import ChangeKind
from jobcache.schema.index import Placement, placements
from jobcache.schema.job import FINGERPRINT, decode_indexed_fields
from jobcache_refresher.records import Fields, Record, Records


class Operation(NamedTuple):
    """One job's change, to be applied in one step."""

    path: bytes
    kind: ChangeKind
    expected_revision: bytes
    """The revision the hash must be at; empty for no hash."""
    fields: Fields
    """All fields after the change."""
    set_fields: Fields
    dropped_fields: tuple[bytes, ...]
    removed: tuple[tuple[bytes, bytes], ...]
    """Index entries to remove: index and member."""
    added: tuple[Placement, ...]
    """Index entries to add, or to give another score."""
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
    after = _placements(path, fields)
    if record is None:
        return Operation(
            path=path,
            kind=ChangeKind.ADDED,
            expected_revision=b"",
            fields=fields,
            set_fields=fields,
            dropped_fields=(),
            removed=(),
            added=after,
            visible=True,
        )
    old, before = record.fields, _placements(path, record.fields)
    set_fields = {name: value for name, value in fields.items() if old.get(name) != value}
    dropped = tuple(name for name in old if name not in fields)
    return Operation(
        path=path,
        kind=ChangeKind.MODIFIED,
        expected_revision=record.revision,
        fields=fields,
        set_fields=set_fields,
        dropped_fields=dropped,
        removed=_entries_left(before, after),
        added=tuple(one for one in after if one not in before),
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
        removed=_entries_left(_placements(path, record.fields), ()),
        added=(),
        visible=True,
    )


def _placements(path: bytes, fields: Fields) -> tuple[Placement, ...]:
    return placements(JobId.from_path(path), decode_indexed_fields(fields))


def _entries_left(
    before: tuple[Placement, ...], after: tuple[Placement, ...]
) -> tuple[tuple[bytes, bytes], ...]:
    """What is left behind. An entry that only moves is overwritten by the one that is added."""
    kept = {key for one in after for key in one.keys}
    return tuple((key, one.member) for one in before for key in one.keys if key not in kept)
