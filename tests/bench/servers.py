"""The servers that the suite knows, for a bench that does without those that are not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests import servers

KINDS = {"redis-7.0": "Redis 7.0", "redis-8.2": "Redis 8.2", "valkey-9": "Valkey 9"}
"""Names for people by those of the suite."""


class MissingServerError(Exception):
    """It is not installed; the message says which."""


@contextmanager
def running(kind: str, *options: str) -> Iterator[str]:
    """The URL of a server of one kind, for as long as the context lasts.

    Raises:
        MissingServerError: there is none on this machine.
    """
    try:
        servers.binary_of(kind)
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        raise MissingServerError(str(missing)) from None
    with servers.running_server(kind, *options) as server:
        yield server.url
