"""What this process remembers of answers, so that only what changed travels and is parsed again.

A parsed job is good for one revision in one epoch, and is asked for by the revision that the server has just named; an
answer is good for one generation in one epoch, and is given again when the server has just named that. So neither
can be older than what the server says. What is of an epoch that has passed is of no use, and goes as room is needed.
Bounded in bytes. Without locks: every step on a dict is atomic, a lost race costs a fetch, and nothing can be held
across a fork.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from jobcache.schema.job import ParsedJob

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """What a query found, and in which generation of which epoch."""

    epoch: bytes
    generation: int
    found: Any


class _Known(NamedTuple):
    """A parsed job. Revisions begin anew with each epoch, and one thread may still be at another than the others."""

    epoch: bytes
    revision: bytes
    job: ParsedJob


class ParsedJobCache:
    """At most about ``most_bytes``, an eighth of it for answers and the rest for parsed jobs; 0 for none."""

    def __init__(self, most_bytes: int) -> None:
        self._answers: _Halves[Hashable, KnownAnswer] = _Halves(most_bytes // 8)
        self._jobs: _Halves[bytes, _Known] = _Halves(most_bytes - most_bytes // 8)

    def get(self, path: bytes, epoch: bytes, revision: bytes) -> ParsedJob | None:
        """The job at a revision of an epoch, if it is known."""
        known = self._jobs.get(path)
        if known is None or known.revision != revision or known.epoch != epoch:
            return None
        return known.job

    def known_revision(self, path: bytes) -> bytes:
        """The revision at which a job is known, in whichever epoch; empty if it is not."""
        known = self._jobs.get(path)
        return known.revision if known else b""

    def put(self, path: bytes, epoch: bytes, revision: bytes, job: ParsedJob) -> None:
        """Remember a job at a revision of an epoch."""
        self._jobs.put(path, _Known(epoch, revision, job), job.size)

    def known_answer(self, signature: Hashable) -> KnownAnswer | None:
        """What a query found when it was last answered."""
        return self._answers.get(signature)

    def note_answer(self, signature: Hashable, answer: KnownAnswer, size: int) -> None:
        """Remember what a query found; ``size`` is about how many bytes that takes."""
        self._answers.put(signature, answer, size)


class _Halves(Generic[K, V]):
    """Two halves: what is used moves to the young one; when that is full it becomes the old one, and what was not used
    since goes.
    """

    def __init__(self, most_bytes: int) -> None:
        self._half = most_bytes // 2
        self._young: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}
        self._young_bytes = 0

    def get(self, key: K) -> V | None:
        entry = self._young.get(key)
        if entry is None:
            entry = self._old.get(key)
            if entry is None:
                return None
            self._keep(key, entry)
        return entry[0]

    def put(self, key: K, value: V, size: int) -> None:
        if size <= self._half:
            self._keep(key, (value, size))

    def _keep(self, key: K, entry: tuple[V, int]) -> None:
        replaced = self._young.get(key)
        self._young_bytes += entry[1] - (replaced[1] if replaced else 0)
        self._young[key] = entry
        if self._young_bytes > self._half:
            self._old, self._young, self._young_bytes = self._young, {}, 0
