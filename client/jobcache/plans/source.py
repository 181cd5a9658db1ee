"""What every plan reads from, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from jobcache.codec import ParsedJob
from jobcache.keys import Keys
from jobcache.models import JobMetadata
from jobcache.plans.memo import Memo
from jobcache.plans.plan import Plan
from jobcache.plans.stamp import Stamp

ANSWER_OVERHEAD = 2000
"""Bytes of memory that an answer takes beside its jobs, about."""

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

    build: Callable[[Stamp], T]
    """Makes the value under a stamp; each time one that shares nothing that can be changed."""
    header: Stamp
    jobs: Sequence[ParsedJob] = ()
    """What ``build`` holds on to."""

    @property
    def value(self) -> T:
        """What the call returns."""
        return self.build(self.header)

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return ANSWER_OVERHEAD + sum(job.size for job in self.jobs)

    @classmethod
    def of(cls, jobs: Sequence[ParsedJob], header: Stamp) -> Answer[list[JobMetadata]]:
        """A listing of jobs."""
        return Answer(lambda stamp: build(jobs, stamp), header, jobs)


Query: TypeAlias = Callable[..., Plan[Answer[T]]]
"""A call that reads: takes the source and the caller's arguments."""


def build(jobs: Iterable[ParsedJob], stamp: Stamp) -> list[JobMetadata]:
    """The models that a caller gets."""
    vantage = stamp.vantage
    return [job.build(vantage) for job in jobs]
