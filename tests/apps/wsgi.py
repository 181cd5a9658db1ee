"""``JobCache`` under a sync, threaded or gevent worker; configured by the environment as a user's application is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from jobcache import CacheUnavailable, JobCache

cache = JobCache(namespace=os.environ["JOBCACHE_NAMESPACE"], max_connections=4)
cache.counts()

Start = Callable[[str, list[tuple[str, str]]], Any]


def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """``/project/group/name/run_id`` answers with the job's names, and the process."""
    headers = [("Content-Type", "application/json"), ("X-Jobcache-Worker", str(os.getpid()))]
    try:
        job = cache.get_job(*environ["PATH_INFO"].strip("/").split("/"))
    except CacheUnavailable as error:
        start_response("503 Service Unavailable", headers)
        return [str(error).encode()]
    start_response("200 OK", headers)
    return [json.dumps(job and [job.project, job.group, job.name, job.run_id]).encode()]
