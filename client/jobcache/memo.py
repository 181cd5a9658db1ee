"""Parsed jobs of this process, so that only what changed travels and is parsed again.

An entry is good for one revision in one epoch, and is asked for by the revision that the server has just named: it can
never be older than that. Bounded in bytes. Without locks: every step on a dict is atomic, a lost race costs a
fetch, and nothing can be held across a fork.
"""

from __future__ import annotations

from collections.abc import Hashable

from jobcache.codec import ParsedJob

MOST_SIGNATURES = 1000
"""Queries of which is remembered when they were last answered."""


class Memo:
    """At most about ``most_bytes`` of parsed jobs; 0 for none.

    Two halves: what is used moves to the young one; when that is full it becomes the old one, and what was not used
    since goes.
    """

    def __init__(self, most_bytes: int) -> None:
        self._half = most_bytes // 2
        self._epoch = b""
        self._young: dict[bytes, tuple[bytes, ParsedJob]] = {}
        self._old: dict[bytes, tuple[bytes, ParsedJob]] = {}
        self._young_bytes = 0
        self._answered: dict[Hashable, int] = {}

    def enter(self, epoch: bytes) -> None:
        """Look from an epoch: what was learned in another counts for nothing."""
        if epoch != self._epoch:
            self._young, self._old, self._young_bytes = {}, {}, 0
            self._answered = {}
            self._epoch = epoch

    def get(self, path: bytes, revision: bytes) -> ParsedJob | None:
        """The job at a revision, if it is known."""
        entry = self._young.get(path)
        if entry is None:
            entry = self._old.get(path)
            if entry is None or entry[0] != revision:
                return None
            self._keep(path, entry)
        return entry[1] if entry[0] == revision else None

    def known_revision(self, path: bytes) -> bytes:
        """The revision at which a job is known; empty if it is not."""
        entry = self._young.get(path) or self._old.get(path)
        return entry[0] if entry else b""

    def put(self, path: bytes, revision: bytes, job: ParsedJob) -> None:
        """Remember a job at a revision."""
        if job.size <= self._half:
            self._keep(path, (revision, job))

    def last_answered(self, signature: Hashable) -> int:
        """The generation in which a query was last answered in this epoch; 0 if it was not.

        What changed since is not known; what did not is, as long as it was not dropped.
        """
        return self._answered.get(signature, 0)

    def note_answer(self, signature: Hashable, generation: int) -> None:
        """A query was answered in a generation."""
        if not self._half:
            return
        if len(self._answered) >= MOST_SIGNATURES:
            self._answered = {}
        self._answered[signature] = generation

    def _keep(self, path: bytes, entry: tuple[bytes, ParsedJob]) -> None:
        if path not in self._young:
            self._young_bytes += entry[1].size
        self._young[path] = entry
        if self._young_bytes > self._half:
            self._old, self._young, self._young_bytes = self._young, {}, 0
