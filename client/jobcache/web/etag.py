"""Whether a client has an answer already: the tag of an answer, and the tags that a request names."""

from __future__ import annotations

import re
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version

from starlette.requests import Request

from jobcache.models import Freshness

try:
    _VERSION = version("jobcache")
except PackageNotFoundError:  # run from its source
    _VERSION = ""
_TAG = re.compile(r'"[^"]*"')


def make_etag(request: Request, fresh: Freshness) -> str:
    """The tag of an answer: equal ones hold the same data.

    It covers what an answer depends on: epoch, generation, state, reason, the address that was asked for, and the
    version of this program. It is a weak one, since the age in the answer grows and its bytes may be compressed.
    """
    seen = (fresh.epoch, fresh.generation, fresh.state.value, fresh.reason, fresh.last_good)
    address = request.scope["path"], request.scope["query_string"]
    return f'W/"{blake2b(repr((seen, address, _VERSION)).encode(), digest_size=12).hexdigest()}"'


def has_etag(request: Request, etag: str) -> bool:
    """Whether ``If-None-Match`` names the tag, weak or strong."""
    named = ",".join(request.headers.getlist("if-none-match"))
    return named.strip() == "*" or bool({*_TAG.findall(named)} & {*_TAG.findall(etag)})
