"""What was published: each job's fields and revision, as Redis holds them."""

from __future__ import annotations

from dataclasses import dataclass

Fields = dict[bytes, bytes]


@dataclass(slots=True)
class Record:
    """One published job."""

    fields: Fields
    revision: bytes
    """What its hash says in ``rev``."""


Records = dict[bytes, Record]
"""Records by path."""
