"""What one step of the server saw of a job, and whether its entries in the indexes agree with its hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobcache.ids import JobId
from jobcache.schema.index import Entry, all_entries
from jobcache.schema.job import CHIPS, REV, decode_indexed_fields

FIELDS = (b"status", b"started_at", b"heartbeat_at", REV, CHIPS)
"""Fields of a hash that an examination asks for."""
WRONG_TYPE = b"!"
"""The script's answer for a key of another type."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a step saw of a job: its hash, and the scores of the entries asked for."""

    fields: dict[bytes, bytes] | None
    """None when its key is no hash."""
    scores: tuple[float | None, ...]


def read_standing(reply: Any) -> Standing:
    """What the script `examine` says of one job: the values of ``FIELDS``, and a score for each entry asked for."""
    values, _, scores = reply
    fields = None
    if values != WRONG_TYPE:
        fields = {
            name: value for name, value in zip(FIELDS, values, strict=True) if value is not None
        }
    return Standing(
        fields,
        tuple(None if score in (None, WRONG_TYPE) else float(score) for score in scores),
    )


def entries_of(path: bytes, standing: Standing) -> list[Entry]:
    """What must stand in the indexes, as the hash says; nothing if it says nothing."""
    if not standing.fields or REV not in standing.fields:
        return []
    try:
        return all_entries(JobId.from_path(path), decode_indexed_fields(standing.fields))
    except (KeyError, ValueError):
        return []


def is_right(entries: Sequence[Entry], before: Standing, after: Standing) -> bool:
    """Whether the hash did not change between two looks, and each of its entries has the score that it gives."""
    scores = tuple(entry.score for entry in entries)
    return bool(entries) and before.fields == after.fields and after.scores == scores


def chips_of(standing: Standing, since: float) -> int:
    """How many chips a job keeps busy: those of its last heartbeat, if that is not from before ``since`` (epoch)."""
    fields = standing.fields or {}
    try:
        fresh = float(fields.get(b"heartbeat_at", b"-inf")) >= since
        return int(fields.get(CHIPS, b"0")) if fresh else 0
    except ValueError:
        return 0
