"""How a list is read: which indexes hold it, and what is still to be tested of each job. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from jobcache.ids import encode_name
from jobcache.models import JobStatus
from jobcache.queries.filters import UNLIMITED, Filters, Order, Span
from jobcache.schema.index import activity_indexes, filter_indexes

MOST_INDEXES = 30
"""Most indexes of one union: each step looks into all of them."""

Argument = bytes | int


class Plan(NamedTuple):
    """How a list is read."""

    indexes: tuple[bytes, ...]
    """Disjoint, so that none of their union is met twice."""
    span: Span = UNLIMITED
    """Of the scores that are wanted."""
    tests: tuple[Argument, ...] = ()
    """What is tested of each member, as ``search.lua`` reads it; empty if the indexes hold just what is wanted."""
    member_prefix: bytes = b""
    """What makes a member of the indexes the path of a job."""

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return sum(map(len, self.indexes)) + sum(map(len, map(str, self.tests)))


@lru_cache(maxsize=256)
def make_plan(filters: Filters) -> Plan:
    """The smallest union of indexes that holds what the filters match, and the tests that remain."""
    by_start = filters.order is Order.STARTED
    indexes, covered = _by_start(filters) if by_start else _by_beat(filters)
    span, tested_span = filters.started, filters.active
    if not by_start:
        span, tested_span = tested_span, span
    rest = {name: getattr(filters, name) for name in _NAMED if name not in covered}
    is_whole = (
        not filters.words
        and filters.fresh is None
        and tested_span == UNLIMITED
        and all(values is None for values in rest.values())
    )
    if is_whole:
        return Plan(indexes, span)
    started, active = (UNLIMITED, tested_span) if by_start else (tested_span, UNLIMITED)
    tests = (
        *_counted(sorted(filters.words)),
        *_counted(encode_name(name) for name in rest.get("projects") or ()),
        *_counted(encode_name(name) for name in rest.get("groups") or ()),
        *_counted(status.value.encode() for status in rest.get("statuses") or ()),
        _FRESH[filters.fresh],
        *started,
        *active,
    )
    return Plan(indexes, span, tests)


_NAMED = ("projects", "groups", "statuses")
_FRESH = {None: b"", True: b"live", False: b"stale"}


def _by_start(filters: Filters) -> tuple[tuple[bytes, ...], set[str]]:
    """The first union of indexes that is not too large, and the filters that it covers."""
    for covered in _UNIONS:
        values = [getattr(filters, name) if name in covered else None for name in _NAMED]
        projects, groups, statuses = (sorted(one) if one else [None] for one in values)
        parts = len(projects) * len(groups) * len(statuses)
        per_part = len(JobStatus) if groups != [None] and statuses == [None] else 1
        if parts * per_part <= MOST_INDEXES:
            chosen = product(projects, groups, statuses)
            return tuple(index for one in chosen for index in filter_indexes(*one)), covered
    raise AssertionError("the last union is of one index")


_UNIONS = (
    {"projects", "groups", "statuses"},
    {"projects", "statuses"},
    {"projects"},
    {"groups", "statuses"},
    {"statuses"},
    set[str](),
)
"""Sets of filters that a union may cover, from the smallest union to the largest."""


def _by_beat(filters: Filters) -> tuple[tuple[bytes, ...], set[str]]:
    projects = None if filters.projects is None else sorted(filters.projects)
    statuses = None if filters.statuses is None else sorted(filters.statuses)
    if projects is None or len(projects) > MOST_INDEXES or statuses != [JobStatus.RUNNING]:
        return activity_indexes(None, statuses), {"statuses"}
    return activity_indexes(projects, statuses), {"projects", "statuses"}


def _counted(values: Iterable[bytes]) -> tuple[Argument, ...]:
    listed = [*values]
    return len(listed), *listed
