"""Names of every kind: each way to write an answer bears them, and a link that is built from it finds the run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import jinja2
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, TypeAdapter

from jobcache import AsyncJobCache, JobCache, JobMetadata, JobPage
from jobcache.web import JobApi
from jobcache_refresher import Refresher
from tests.conftest import Servers
from tests.integration.web import Api, get, ids
from tests.servers import RunningServer
from tests.trees import Names, shown_names, write_run

NAMESPACE = "web-names"
KINDS = {
    "ASCII": b"base-1.2_x",
    "Unicode": "\xfcn\xefc\xf6de \u8a13\u7df4 \U0001f680".encode(),
    "decomposed": "u\u0308".encode(),
    "Latin-1": b"caf\xe9",
    "a byte alone": b"\x80",
    "cut in a character": "\u8a13".encode()[:2],
    "overlong": b"\xc0\xaf",
    "a surrogate in UTF-8": b"\xed\xa0\x80",
    "of the range that bytes are shown in": "\uef80\uefff".encode(),
    "such, and a byte": "\uefe9\uef00".encode() + b"\xe9",
    "no character": "\ufffd\uffff".encode(),
    "control characters": b"a\nb\r\tc\x1b[31m\x7f",
    "separators of lines": "a\u2028b\x85".encode(),
    "right to left": "\u202egnp\u05d0".encode(),
    "HTML": b"<b>&amp;'\"</b>".replace(b"/", b"|"),
    "of an address": b"a?b#c&d=e;f+g%2Fh%00%",
    "dots": b"...",
    "blanks": b"  ",
    "backslash": b"..\\x",
    "a template": b"{{ 1 }}",
    "long": b"x" * 255,
    "long, of bytes": b"\xff" * 255,
}


def path(kind: str) -> Names:
    """A run of which every name is of a kind, as ``os.fsdecode`` gives it."""
    name = os.fsdecode(KINDS[kind])
    return name, name, name, name


def told(kind: str) -> Names:
    """The same as answers tell it."""
    return shown_names(path(kind))


@pytest.fixture(scope="module")
def server(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    root: Path = tmp_path_factory.mktemp("names")
    for kind in KINDS:
        write_run(root, path(kind), config={"kind": kind})
    valkey = servers["valkey-9"]
    Refresher(root, url=valkey.url, namespace=NAMESPACE).refresh_once()
    return valkey


@pytest.fixture(scope="module")
def cache(server: RunningServer) -> Iterator[JobCache]:
    with JobCache(server.url, namespace=NAMESPACE) as cache:
        yield cache


class OwnJob(BaseModel):
    """A response model of an application."""

    model_config = ConfigDict(from_attributes=True)
    project: str
    run_id: str
    config: dict[str, Any]


def application(cache: JobCache) -> FastAPI:
    app = FastAPI()

    @app.get("/jobs")
    def jobs() -> list[JobMetadata]:
        return cache.list_all_jobs(limit=None)

    @app.get("/page")
    def page() -> JobPage:
        return cache.page(limit=200)

    @app.get("/own", response_model=list[OwnJob])
    def own() -> Any:
        return cache.list_all_jobs(limit=None)

    @app.get("/job/{project}/{group}/{name}/{run_id}")
    def job(project: str, group: str, name: str, run_id: str) -> JobMetadata | None:
        return cache.get_job(project, group, name, run_id)

    @app.get("/job")
    def job_by_id(path: str) -> JobMetadata | None:
        return cache.get_job(*path.split("/"))

    return app


@pytest.fixture(scope="module")
def web(cache: JobCache, server: RunningServer) -> Iterator[Api]:
    """An application of FastAPI that names the models as its answers."""
    with closing(Api(application(cache), AsyncJobCache(server.url))) as client:
        yield client


@pytest.fixture(scope="module")
def api(server: RunningServer) -> Iterator[Api]:
    """The ready-made API."""
    cache = AsyncJobCache(server.url, namespace=NAMESPACE)
    with closing(Api(JobApi(cache), cache)) as client:
        yield client


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def test_every_kind_is_listed(cache: JobCache, web: Api, api: Api) -> None:
    expected = {"/".join(told(kind)) for kind in KINDS}
    assert len(expected) == len(KINDS)
    found = cache.list_all_jobs(limit=None)
    assert {str(job.id) for job in found} == expected
    texts = TypeAdapter(list[JobMetadata]).dump_json(found)
    assert {job["id"] for job in json.loads(texts)} == expected
    assert {job["id"] for job in web.get("/jobs").json()} == expected
    assert {job["id"] for job in web.get("/page").json()["jobs"]} == expected
    assert {job["project"] for job in web.get("/own").json()} == {told(kind)[0] for kind in KINDS}
    assert set(ids(get(api, "/api/jobs?limit=200"))) == expected


def test_model_as_json_comes_back(cache: JobCache, kind: str) -> None:
    found = cache.get_job(*told(kind))
    assert found is not None
    again = JobMetadata.model_validate_json(found.model_dump_json())
    assert again == found
    assert cache.get_job(*again.id) == found
    assert cache.get_job(*str(again.id).split("/")) == found


def test_link_of_the_names_finds_the_run(web: Api, api: Api, cache: JobCache, kind: str) -> None:
    found = cache.get_job(*told(kind))
    assert found is not None
    link = "/".join(quote(name, safe="") for name in found.id)
    assert get(api, f"/api/jobs/{link}")["config"] == {"kind": kind}
    (run,) = get(api, f"/api/jobs/{link.rpartition('/')[0]}")["jobs"]
    assert run["config"] == {"kind": kind}
    assert web.get(f"/job/{link}").json()["config"] == {"kind": kind}


def test_link_of_the_id_finds_the_run(web: Api, api: Api, cache: JobCache, kind: str) -> None:
    (shown_id,) = [
        job["id"]
        for job in get(api, "/api/jobs?limit=200")["jobs"]
        if job["config"] == {"kind": kind}
    ]
    assert get(api, f"/api/jobs/{quote(shown_id)}")["id"] == shown_id
    assert web.get(f"/job?{urlencode({'path': shown_id})}").json()["id"] == shown_id
    query = urlencode({"project": shown_id.split("/")[0]})
    assert ids(get(api, f"/api/jobs?{query}")) == [shown_id]


def test_link_of_a_template_finds_the_run(api: Api, cache: JobCache, kind: str) -> None:
    found = cache.get_job(*told(kind))
    page = jinja2.Environment(autoescape=True).from_string(
        '<a href="/api/jobs/{{ job.id | string | urlencode }}">{{ job.id }}</a>{{ job.config }}'
    )
    html = page.render(job=found)
    link, text = html.removeprefix('<a href="').partition("</a>")[0].split('">')
    assert get(api, link)["config"] == {"kind": kind}
    assert unescape(text) == unquote(link).removeprefix("/api/jobs/")
    assert html.encode()
