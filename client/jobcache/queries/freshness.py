"""How fresh the cache is, and whether it may be answered from."""

from __future__ import annotations

from jobcache.errors import CacheNotReady
from jobcache.ids import decode_name
from jobcache.models import Freshness, JobMetadata
from jobcache.queries.answer import Answer
from jobcache.queries.query import Ask, Pause, Query, Run
from jobcache.queries.source import Source
from jobcache.schema.header import Header
from jobcache.schema.scripts import read_script


def freshness(source: Source) -> Query[Freshness]:
    """How fresh the cache is; never raises ``CacheNotReady``."""
    reply = yield Run(read_script("freshness"), (source.keys.meta,))
    return Header(reply[0]).require_schema(source.where).freshness


def meta(source: Source) -> Query[dict[str, str]]:
    """The fields of ``meta`` as text."""
    reply = yield Ask((b"HGETALL", source.keys.meta))
    return {
        decode_name(field): decode_name(value)
        for field, value in zip(reply[::2], reply[1::2], strict=True)
    }


def wait_until_ready(source: Source, timeout: float) -> Query[Freshness]:
    """Return once a refresher has completed a scan."""
    waited = 0.0
    while True:
        reply = yield Run(read_script("freshness"), (source.keys.meta,))
        header = Header(reply[0])
        try:
            return header.require_ready(source.where).freshness
        except CacheNotReady as not_ready:
            if waited >= timeout:
                waiting = f" (waited {timeout:g} s)" if timeout else ""
                raise CacheNotReady(f"{not_ready}{waiting}") from None
        waited = yield Pause(min(0.1, max(0.0, timeout - waited)))


def nothing(source: Source) -> Query[Answer[list[JobMetadata]]]:
    """The answer for names that no directory can bear: none, if the cache is ready to say so."""
    reply = yield Run(read_script("freshness"), (source.keys.meta,))
    return Answer.of((), Header(reply[0]).require_ready(source.where))
