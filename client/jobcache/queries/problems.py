"""Why runs are missing: what the refresher should read and does not, as a query."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import islice

from jobcache.arguments import require_type
from jobcache.ids import decode_name, encode_name
from jobcache.models import Problem
from jobcache.queries.answer import Answer, AnswerMetadata
from jobcache.queries.filters import check_limit
from jobcache.queries.freshness import nothing
from jobcache.queries.query import Query, Run
from jobcache.queries.source import Source
from jobcache.schema.header import Header
from jobcache.schema.problems import decode_problem
from jobcache.schema.scripts import read_script


def problems(source: Source, prefix: str | None, limit: int | None) -> Query[Answer[list[Problem]]]:
    """Problems of a path, of what lies below it and of the directories above it, by path."""
    check_limit(limit)
    require_type("prefix", prefix, str, optional=True)
    try:
        path = encode_name((prefix or "").strip("/"))
    except UnicodeEncodeError:
        found = yield from nothing(source)
        return Answer(partial(_build, ()), found.header)
    reply = yield Run(read_script("problems"), (source.keys.meta, source.keys.problems), (path,))
    header = Header(reply[0]).require_ready(source.where)
    entries = sorted(
        zip(reply[1][::2], reply[1][1::2], strict=True), key=lambda entry: decode_name(entry[0])
    )
    decoded = (decode_problem(path, raw) for path, raw in entries)
    known = (problem for problem in decoded if problem is not None)
    return Answer(partial(_build, tuple(islice(known, limit))), header)


def _build(found: Iterable[Problem], _: AnswerMetadata) -> list[Problem]:
    return [problem.model_copy() for problem in found]
