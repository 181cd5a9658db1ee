"""What every query reads from."""

from __future__ import annotations

from dataclasses import dataclass

from jobcache.queries.parsed_jobs import ParsedJobCache
from jobcache.schema.keys import Keys


@dataclass(frozen=True, slots=True)
class Source:
    """Where a query reads: the keys of one namespace, what is known of them, and how to name the place to a person."""

    keys: Keys
    where: str
    parsed: ParsedJobCache
