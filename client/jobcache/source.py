"""What every plan reads from, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from jobcache.header import Header
from jobcache.keys import Keys
from jobcache.memo import Memo

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a plan reads: the keys of one namespace, what is known of them, and how to name the place to a person."""

    keys: Keys
    where: str
    memo: Memo


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a call returns, and how fresh it is."""

    value: T
    header: Header
