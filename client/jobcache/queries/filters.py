"""What a caller asks for: filters, order and limits, checked once."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from jobcache.arguments import read_texts, require_type
from jobcache.ids import decode_name, encode_name, is_name
from jobcache.models import JobStatus

Texts: TypeAlias = str | Sequence[str] | Set[str] | None
"""One text or several; of a filter, None is none."""
Time: TypeAlias = datetime | timedelta | None
"""An aware time, or how long before the last completed scan."""

MOST_VALUES = 100
"""Of one filter."""
MOST_TEXT = 1000
"""Characters of a text that is searched for; the longest path has 1,023 bytes."""
LIVE, STALE = "live", "stale"
STATUS_WORDS = (*(status.value for status in JobStatus), LIVE, STALE)
"""What ``status`` takes: what a job says, and whether one that says ``running`` has a fresh heartbeat."""


TIMES = ("started_after", "started_before", "active_after", "active_before")
"""The arguments that limit a time."""


class Order(Enum):
    """What a list is sorted by, newest first."""

    STARTED = "started"
    ACTIVITY = "activity"


class Span(NamedTuple):
    """Times from ``after`` on and before ``before``, as scripts read them; empty for no limit.

    Either is epoch seconds, or ``ago:`` and seconds before the last completed scan, so that equal generations give
    equal answers. A time that cannot be read lies in the unlimited span only.
    """

    after: bytes = b""
    before: bytes = b""

    @classmethod
    def since(cls, seconds: float) -> Span:
        """From some seconds before the last completed scan on; of infinitely many, the unlimited one."""
        return cls() if seconds == math.inf else cls(_ago(seconds))


UNLIMITED = Span()


@dataclass(frozen=True, slots=True)
class Filters:
    """What a job must match, and the order of the list. Values that mean the same are equal."""

    projects: frozenset[str] | None = None
    """None for any, as in the next two."""
    groups: frozenset[str] | None = None
    statuses: frozenset[JobStatus] | None = None
    fresh: bool | None = None
    """Of jobs that say ``running``, whether the heartbeat must be fresh; None for both."""
    words: frozenset[bytes] = frozenset()
    """In ASCII lower case; each must be in the path or in the SLURM id."""
    started: Span = UNLIMITED
    active: Span = UNLIMITED
    order: Order = Order.STARTED
    can_match: bool = True
    """False if no job can."""

    @classmethod
    def of(
        cls,
        project: Texts = None,
        group: Texts = None,
        status: Texts = None,
        *,
        text: str | None = None,
        started_after: Time = None,
        started_before: Time = None,
        active_after: Time = None,
        active_before: Time = None,
        order: str | None = None,
    ) -> Filters:
        """The filters that a caller means. Empty text is no filter; an empty sequence matches nothing.

        Raises:
            ValueError: an unknown status or order, a naive time, a negative timedelta, or too much text.
            TypeError: an argument is of a wrong type. Either names the argument.
        """
        projects, groups = _read_names("project", project), _read_names("group", group)
        wanted = _read_values("status", status)
        statuses, fresh = _read_statuses(wanted)
        words = _read_words(text)
        return cls(
            projects,
            groups,
            statuses,
            fresh,
            words or frozenset(),
            _read_span("started", started_after, started_before),
            _read_span("active", active_after, active_before),
            _read_order(order),
            can_match=words is not None
            and all(one != frozenset() for one in (projects, groups, wanted)),
        )

    @property
    def digest(self) -> str:
        """What a cursor says of the filters with which it was made."""
        return _digest(self)


@lru_cache(maxsize=256)
def _digest(filters: Filters) -> str:
    sets = (filters.projects, filters.groups, filters.statuses, filters.words)
    listed = [None if one is None else sorted(one) for one in sets]
    flags = (filters.fresh, filters.order.value, filters.can_match)
    meant = (listed, *flags, *filters.started, *filters.active)
    return hashlib.sha256(repr(meant).encode("utf-8", "replace")).hexdigest()[:16]


def check_limit(limit: int | None) -> int | None:
    """The limit a caller means; None is all.

    Raises:
        ValueError: it is negative.
        TypeError: it is no whole number.
    """
    require_type("limit", limit, int, optional=True)
    if limit is not None and limit < 0:
        raise ValueError(f"limit={limit}: use None for all, or a number from 0")
    return limit


_AGO = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_time(name: str, text: str | None) -> datetime | timedelta | None:
    """The time that a text means, as programs and web forms send it: ``24h`` before the last scan, or an ISO time.

    Args:
        name: of the argument, for the message.
        text: ``30m``, ``24h`` or ``7d``, or a time with its zone such as ``2026-02-04T09:44:35Z``; empty for none.

    Raises:
        ValueError: it is neither.
    """
    if not text:
        return None
    if ago := _AGO.fullmatch(text):
        return timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.utcoffset() is None:
        raise ValueError(
            f"{name}={text!r}: use 30m, 24h or 7d, or a time with its zone, as 2026-02-04T09:44:35Z"
        )
    return time


def _read_values(name: str, value: Texts) -> frozenset[str] | None:
    """The values of a filter, None if there is none: empty text is none, also as the only one of several."""
    values = read_texts(name, value)
    if values is None:
        return None
    if len(values) > MOST_VALUES:
        raise ValueError(f"{name}: {len(values)} values; use at most {MOST_VALUES}")
    told = frozenset(one for one in values if one)
    return None if values and not told else told


def _read_names(name: str, value: Texts) -> frozenset[str] | None:
    """The names of directories among the values, each in the form that is handed out."""
    values = _read_values(name, value)
    if values is None:
        return None
    return frozenset(decode_name(encode_name(one)) for one in values if is_name(one))


_BEATS = {LIVE: {True}, STALE: {False}, JobStatus.RUNNING.value: {True, False}}


def _read_statuses(words: frozenset[str] | None) -> tuple[frozenset[JobStatus] | None, bool | None]:
    """The statuses that jobs may say, and whether the heartbeat of running ones must be fresh."""
    if words is None:
        return None, None
    statuses: set[JobStatus] = set()
    beats: set[bool] = set()
    for word in words:
        if word not in STATUS_WORDS:
            raise ValueError(f"status={word!r}: use one of {', '.join(STATUS_WORDS)}")
        said = _BEATS.get(word)
        statuses.add(JobStatus.RUNNING if said else JobStatus(word))
        beats |= said or set()
    fresh = beats.pop() if len(beats) == 1 else None
    every = fresh is None and len(statuses) == len(JobStatus)
    return None if every else frozenset(statuses), fresh


def _read_words(text: str | None) -> frozenset[bytes] | None:
    """The words of a text, encoded as paths are; None if no path can hold one of them."""
    require_type("text", text, str, optional=True)
    if text is None:
        return frozenset()
    if len(text) > MOST_TEXT:
        raise ValueError(f"text: {len(text)} characters; use at most {MOST_TEXT}")
    try:
        return frozenset(encode_name(word).lower() for word in text.split())
    except UnicodeEncodeError:
        return None


def _read_span(name: str, after: Time, before: Time) -> Span:
    return Span(_read_bound(f"{name}_after", after), _read_bound(f"{name}_before", before))


def _read_bound(name: str, time: Time) -> bytes:
    if time is None:
        return b""
    if isinstance(time, timedelta):
        if time < timedelta():
            raise ValueError(f"{name}={time!r}: use a timedelta from 0")
        return _ago(time.total_seconds())
    require_type(name, time, datetime, timedelta)
    if time.utcoffset() is None:
        raise ValueError(f"{name}={time!r}: use a datetime with a zone")
    return repr(time.timestamp()).encode()


def _ago(seconds: float) -> bytes:
    return b"ago:" + repr(float(seconds)).encode()


def _read_order(order: str | None) -> Order:
    require_type("order", order, str, optional=True)
    try:
        return Order(order or Order.STARTED)
    except ValueError:
        known = " or ".join(one.value for one in Order)
        raise ValueError(f"order={order!r}: use {known}") from None
