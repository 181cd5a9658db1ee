"""A server's replies to the scripts of clients, made by hand, and queries that are given them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias, TypeVar

from jobcache import JobMetadata, JobStatus
from jobcache.ids import JobId
from jobcache.queries.parsed_jobs import ParsedJobCache
from jobcache.queries.query import Query, Step
from jobcache.queries.source import Source
from jobcache.schema import meta
from jobcache.schema.header import HEADER_FIELDS
from jobcache.schema.keys import SCHEMA_VERSION, Keys
from tests.unit.encoding import values_of

T = TypeVar("T")

NOW = 1_000_000.0
"""The server's clock, and the end of the last completed scan."""
STALE_AFTER = 300.0
WHERE = "namespace 'n' at redis://h"
GONE: list[bytes] = []
"""What a script's ``read_job`` replies for a job that is not there."""


def make_source(memo_bytes: int = 1 << 20) -> Source:
    """Where a query reads; nothing is remembered yet."""
    return Source(Keys("n"), WHERE, ParsedJobCache(memo_bytes))


def header(*, now: float = NOW, lease: bytes = b"string", **fields: Any) -> list[Any]:
    """The header of a cache that is ready.

    Args:
        now: the server's clock.
        lease: the type of its key.
        fields: other fields of ``meta``; None for one that is missing.
    """
    told = {
        meta.SCHEMA: SCHEMA_VERSION,
        meta.EPOCH: "1.5",
        meta.GENERATION: 7,
        meta.STATE: "ready",
        meta.COMPLETED_AT: NOW,
        meta.STALE_AFTER: STALE_AFTER,
        meta.STATUS_DIR: "/s",
        meta.OVERDUE_AFTER: 30,
        meta.POLL_INTERVAL: 10,
        **fields,
    }
    values = [told.get(name) for name in HEADER_FIELDS]
    texts = [None if value is None else str(value).encode() for value in values]
    return [*texts, lease, [b"%d" % int(now), b"%d" % round(now % 1 * 1e6)]]


def job_values(
    path: bytes,
    status: JobStatus = JobStatus.COMPLETED,
    *,
    started: float = NOW - 3600,
    beat: float = NOW,
) -> list[bytes | None]:
    """The fields of a job, as scripts reply them. Times are epoch seconds."""
    project, group, name, run_id = JobId.from_path(path)
    job = JobMetadata(
        project=project,
        group=group,
        name=name,
        run_id=run_id,
        status=status,
        started_at=datetime.fromtimestamp(started, UTC),
        heartbeat_at=datetime.fromtimestamp(beat, UTC),
    )
    return values_of(job, log_scanned=None)


def job_row(path: bytes, revision: bytes = b"5", **job: Any) -> list[Any]:
    """What a script's ``read_job`` replies for a job that the reader does not know."""
    return [revision, job_values(path, **job)]


def list_reply(
    head: list[Any],
    rows: Sequence[tuple[bytes, list[Any]]],
    follows: bytes = b"none",
    *,
    total: int | None = None,
) -> list[Any]:
    """What ``page.lua`` replies, or without a total ``search.lua``: members, each with what is told of the job."""
    last = [b"%d" % NOW, rows[-1][0]] if rows else []
    counted = [] if total is None else [total]
    return [head, [[member, row] for member, row in rows], last, follows, *counted]


class Heard(NamedTuple):
    """What came of a query."""

    value: Any
    steps: list[Any]
    """What it asked for, in order."""

    @property
    def args(self) -> list[tuple[Any, ...]]:
        """The arguments of each step."""
        return [step.args for step in self.steps]


Reply: TypeAlias = Sequence[Any] | bytes | float | Callable[[Any], Any] | None


def tell(query: Query[T], *replies: Reply) -> Heard:
    """Give a query the replies, in order; a reply may be a function of what was asked. All of them must be needed."""
    steps: list[Step] = []
    left = list(replies)
    reply: Any = None
    try:
        while True:
            steps.append(query.send(reply))
            assert left, f"one more step than replies: {steps[-1]}"
            reply = left.pop(0)
            if callable(reply):
                reply = reply(steps[-1])
    except StopIteration as stop:
        assert not left, f"replies that nobody asked for: {left}"
        return Heard(stop.value, steps)


def paths_of(jobs: Sequence[JobMetadata]) -> list[bytes]:
    """The paths of an answer's jobs."""
    return [job.id.path for job in jobs]
