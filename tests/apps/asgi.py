"""``AsyncJobCache`` under gunicorn's native worker."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from jobcache import AsyncJobCache, CacheUnavailable

cache = AsyncJobCache(namespace=os.environ["JOBCACHE_NAMESPACE"], max_connections=4)
asyncio.run(cache.counts())


async def app(scope: Any, receive: Any, send: Any) -> None:
    """As ``tests.apps.wsgi.app``."""
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
        return
    try:
        job = await cache.get_job(*scope["path"].strip("/").split("/"))
        status, text = 200, json.dumps(job and [job.project, job.group, job.name, job.run_id])
    except CacheUnavailable as error:
        status, text = 503, str(error)
    headers = [(b"x-jobcache-worker", str(os.getpid()).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
