"""What a request is answered with: JSON, with the worker and the freshness in headers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Send

from jobcache.errors import CacheNotReady, CacheUnavailable, JobCacheError
from jobcache.jsontext import dumps_for_web
from jobcache.lazy import peek
from jobcache.models import Freshness, JobMetadata
from jobcache.web.query import BadParameter

RETRY = {"Retry-After": "2"}
"""Seconds after which a client may ask again when there is no answer yet."""


def show_job(job: JobMetadata, names: Iterable[str] | None = None) -> dict[str, Any]:
    """A job as JSON: its fields and what follows from them, as ``dumps_for_web`` takes it.

    Args:
        job: the job.
        names: the fields to show; None for all.
    """
    shown = {
        **_job_fields(job),
        "id": str(job.id),
        "duration": job.duration,
        "duration_seconds": job.duration_seconds,
        "is_stale": job.is_stale,
    }
    return shown if names is None else {name: shown[name] for name in names}


def _job_fields(job: JobMetadata) -> dict[str, Any]:
    # Most of the text is the config's, and it is JSON already: it need not be parsed to be written again.
    fields, rest = peek(job)
    texts = None if rest is None else rest.rest_as_json()
    if texts is None:
        return {**dict(job), "hardware": dict(job.hardware)}
    return {**fields, **{name: orjson.Fragment(text) for name, text in texts.items()}}


def answer(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON from this worker, not to be kept unless the headers say so."""
    return Response(
        dumps_for_web(body),
        status,
        {"Cache-Control": "no-store", **_worker(), **(headers or {})},
        media_type="application/json",
    )


def not_modified(headers: Mapping[str, str]) -> Response:
    """The client has the answer already; only the headers are new."""
    return Response(status_code=304, headers={**_worker(), **headers})


def revalidated(etag: str) -> dict[str, str]:
    """Headers of an answer that a browser may keep, and asks about before it shows it again."""
    return {"Cache-Control": "private, no-cache", "ETag": etag}


def _worker() -> dict[str, str]:
    return {"X-Jobcache-Worker": str(os.getpid())}


def freshness_headers(fresh: Freshness) -> dict[str, str]:
    """How fresh an answer is; the age in seconds, while there is one; and whether it is an old one."""
    age = {} if fresh.age is None else {"X-Jobcache-Age": f"{fresh.age:.3f}"}
    return {
        "X-Jobcache-State": fresh.state.value,
        "X-Jobcache-Epoch": fresh.epoch,
        "X-Jobcache-Generation": str(fresh.generation),
        **age,
        **({"X-Jobcache-Last-Good": "true"} if fresh.last_good else {}),
    }


def without_body(send: Send) -> Send:
    """Send headers only, as HEAD wants it; gunicorn warns of a body."""

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return answer({"error": error.detail}, status=error.status_code, headers=error.headers)


async def _reject(_: Request, error: Exception) -> Response:
    return answer({"error": str(error)}, status=400)


async def _postpone(_: Request, error: Exception) -> Response:
    return answer({"error": str(error)}, status=503, headers=RETRY)


async def _fail(_: Request, error: Exception) -> Response:
    return answer({"error": str(error)}, status=500)


async def _crash(_: Request, __: Exception) -> Response:
    return answer({"error": "internal error: see the log of the worker"}, status=500)


EXCEPTION_HANDLERS: Mapping[Any, Any] = {
    HTTPException: _refuse,
    BadParameter: _reject,
    CacheNotReady: _postpone,
    CacheUnavailable: _postpone,
    JobCacheError: _fail,
    Exception: _crash,
}
"""What each error is answered with. None of the messages holds a password or a traceback."""
