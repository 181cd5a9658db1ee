"""What an answer of the JSON API holds: the fields asked for, or nothing where the client has it already."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobcache import AsyncJobCache
from jobcache.web.fields import JOB_FIELDS
from jobcache_refresher import Refresher
from tests.integration.web import DEFAULT_NAMES, NAMESPACE, Api, api_of, get, path_of
from tests.servers import RunningServer
from tests.trees import write_run

LISTINGS = (
    "/api/jobs",
    "/api/jobs/running",
    "/api/jobs/recent?hours=2400",
    path_of(*DEFAULT_NAMES[:3]),
)


@pytest.fixture(scope="module")
def api(web_server: RunningServer) -> Iterator[Api]:
    with api_of(web_server.url, NAMESPACE) as client:
        yield client


def asked(path: str, query: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}{query}"


@pytest.mark.parametrize("path", LISTINGS)
def test_jobs_hold_the_fields_that_were_asked_for(api: Api, path: str) -> None:
    whole = get(api, path)["jobs"]
    assert whole
    assert whole[0].keys() == set(JOB_FIELDS)
    some = get(api, asked(path, "fields=id,status,duration_seconds"))["jobs"]
    wanted = ("id", "status", "duration_seconds")
    assert some == [{name: job[name] for name in wanted} for job in whole]
    without = get(api, asked(path, "config=0"))["jobs"]
    assert without == [
        {name: value for name, value in job.items() if name != "config"} for job in whole
    ]


def test_one_job_holds_the_fields_that_were_asked_for(api: Api) -> None:
    assert get(api, path_of(*DEFAULT_NAMES) + "?fields=id") == {"id": "/".join(DEFAULT_NAMES)}
    assert "config" not in get(api, path_of(*DEFAULT_NAMES) + "?config=0")


@pytest.mark.parametrize("path", [*LISTINGS, path_of(*DEFAULT_NAMES)])
@pytest.mark.parametrize(
    ("query", "says"), [("fields=konfig", "fields='konfig'"), ("config=x", "config='x'")]
)
def test_field_that_there_is_not_is_refused(api: Api, path: str, query: str, says: str) -> None:
    answer = api.get(asked(path, query))
    assert answer.status_code == 400
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        *LISTINGS,
        path_of(*DEFAULT_NAMES),
        "/api/projects",
        "/api/dashboard/stats",
        "/api/problems",
    ],
)
def test_answer_that_the_client_has_is_not_sent_again(
    api: Api, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = api.get(path)
    etag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    monkeypatch.setattr("jobcache.web.api.show_job", None)  # nothing is serialised
    again = api.request("GET", path, {"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == etag
    assert again.headers["x-jobcache-generation"] == first.headers["x-jobcache-generation"]
    assert "content-type" not in again.headers
    monkeypatch.undo()
    assert api.request("GET", path, {"If-None-Match": '"other"'}).status_code == 200
    assert api.request("HEAD", path, {"If-None-Match": etag}).status_code == 304
    assert api.request("HEAD", path).headers["etag"] == etag


def test_answer_that_changed_is_sent_again(
    valkey: RunningServer, namespace: str, status_dir: Path
) -> None:
    names = ("p", "g", "n", "r")
    write_run(status_dir, names, status="running")
    with (
        Refresher(status_dir, poll_interval=60, url=valkey.url, namespace=namespace),
        api_of(valkey.url, namespace) as api,
    ):
        tags = {"If-None-Match": api.get("/api/jobs").headers["etag"]}
        assert api.request("GET", "/api/jobs", tags).status_code == 304
        write_run(status_dir, names, status="failed")
        cache = AsyncJobCache(valkey.url, namespace=namespace)
        api.run(cache.refresh(wait=True))
        api.run(cache.stop())
        (job,) = api.request("GET", "/api/jobs", tags).json()["jobs"]
        assert job["status"] == "failed"


@pytest.mark.parametrize("path", ["/api/health", "/", "/api/jobs/no/such/job/here", "/nothing"])
def test_answer_that_must_be_new_has_no_tag(api: Api, path: str) -> None:
    headers = api.get(path).headers
    assert headers["cache-control"] == "no-store"
    assert "etag" not in headers


def test_large_answer_is_compressed_for_clients_that_take_it(api: Api) -> None:
    def length(path: str, coding: str) -> int:
        answer = api.request("GET", path, {"Accept-Encoding": coding})
        assert answer.headers.get("content-encoding", "identity") == coding
        return int(answer.headers["content-length"])

    plain, small = length("/api/jobs", "identity"), length("/api/jobs", "gzip")
    assert small < plain / 5
    sent = api.request("GET", "/api/jobs", {"Accept-Encoding": "gzip"})
    assert sent.headers["vary"] == "Accept-Encoding"
    assert abs(len(gzip.compress(sent.content, 1)) - small) < small / 10
    # Of a small one, compressing is a waste.
    assert "content-encoding" not in api.get("/api/health").headers
