"""What a call returns, and how fresh it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from jobcache.models import CacheState, Freshness, JobMetadata
from jobcache.queries.query import Query
from jobcache.schema.job import AsOf, ParsedJob

T = TypeVar("T")


class AnswerMetadata(Protocol):
    """The header of a new answer, or of an old one that stands in for it."""

    @property
    def epoch(self) -> bytes:
        """Which build of the cache it is from."""

    @property
    def as_of(self) -> AsOf:
        """From where the answer's jobs are looked at."""

    @property
    def freshness(self) -> Freshness:
        """What a caller is told of the age of an answer."""


@dataclass(frozen=True, slots=True)
class StaleMetadata:
    """That of an answer that is given again, since there is no new one."""

    first: AnswerMetadata
    """Its metadata when it was new."""
    since: float
    """Seconds since then."""
    why: str
    """Why there is no new one."""

    @property
    def epoch(self) -> bytes:
        """As ``AnswerMetadata``."""
        return self.first.epoch

    @property
    def as_of(self) -> AsOf:
        """As ``AnswerMetadata``: stale is judged as of the answer's scan, and not by how long it has been kept."""
        return self.first.as_of

    @property
    def freshness(self) -> Freshness:
        """As ``AnswerMetadata``; the age has grown since."""
        first = self.first.freshness
        return first.model_copy(
            update={
                "state": CacheState.DEGRADED,
                "reason": f"{self.why}; before that: {first.reason}" if first.reason else self.why,
                "age": None if first.age is None else first.age + self.since,
                "last_good": True,
            }
        )


ANSWER_OVERHEAD = 2000
"""Bytes of memory that an answer takes beside its jobs, about."""


@dataclass(slots=True)
class Answer(Generic[T]):
    """What a call returns, and how fresh it is."""

    build: Callable[[AnswerMetadata], T]
    """Makes the value, given the metadata; each time one that shares nothing that can be changed."""
    header: AnswerMetadata
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
    def of(cls, jobs: Sequence[ParsedJob], header: AnswerMetadata) -> Answer[list[JobMetadata]]:
        """A listing of jobs."""
        return Answer(lambda metadata: build(jobs, metadata), header, jobs)


Reader: TypeAlias = Callable[..., Query[Answer[T]]]
"""A call that reads: takes the source and the caller's arguments."""


def build(jobs: Iterable[ParsedJob], metadata: AnswerMetadata) -> list[JobMetadata]:
    """The models that a caller gets."""
    as_of = metadata.as_of
    return [job.build(as_of) for job in jobs]
