"""The names of redis-py that it does not promise: there, on whatever release this runs on."""

from __future__ import annotations

import redis
import redis.asyncio

from jobcache.transport.private import ASYNC_NAMES, SYNC_NAMES


def test_private_names_of_this_release_exist() -> None:
    for connection, names in (
        (redis.Connection(), SYNC_NAMES),
        (redis.asyncio.Connection(), ASYNC_NAMES),
    ):
        assert not [name for name in names if not hasattr(connection, name)], redis.__version__
