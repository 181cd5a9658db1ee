"""The JSON API: in process against a small tree, and as gunicorn workers that must agree and never touch the tree."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import httpx
import pytest
from fastapi import FastAPI

from jobcache import AsyncJobCache, ConfigError, JobCache, JobMetadata, JobStatus
from jobcache.schema.keys import SCHEMA_VERSION, Keys
from jobcache.web import JobApi
from jobcache_refresher import Refresher
from jobcache_refresher.demo.producer import Producer
from jobcache_refresher.demo.tree import build_tree
from jobcache_refresher.demo.workers import WebWorkers
from tests.conftest import Servers
from tests.servers import RunningServer, missing
from tests.tools import free_port, require
from tests.trees import Names, shown_names, write_run

NAMESPACE = "web"
ODD_NAMES: list[Names] = [
    (os.fsdecode(b"p\xff"), os.fsdecode(b"\xfe\xfd"), "n", "20260101_000000"),
    ("p%2Fq", "a+b c", "n?x=1&y#z", "r\nr"),
    ("running", "ünïcode", "recent", "..."),
    ("recent", "health", '"quoted"', "\\"),
]
DEFAULT_NAMES: Names = ("general", "default", "no_project", "20260101_000001")


def build_odd_runs(root: Path) -> None:
    for names in ODD_NAMES:
        write_run(root, names, status="completed")
    odd_config = {
        "nan": float("nan"),
        "deep": [{"inf": float("-inf")}],
        "lone \udcff": "\ud800",
        "big": 10**30,
    }
    write_run(root, DEFAULT_NAMES, project=None, group=None, config=odd_config)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("web") / "status"
    build_tree(root, 230, running=0.05)
    build_odd_runs(root)
    return root


@pytest.fixture(scope="module")
def server(servers: Servers, tree: Path) -> Iterator[RunningServer]:
    """A server that holds the tree, which does not change."""
    valkey = servers["valkey-9"]
    with Refresher(
        tree, poll_interval=600, relist_interval=600, url=valkey.url, namespace=NAMESPACE
    ):
        yield valkey


@pytest.fixture(scope="module")
def cache(server: RunningServer) -> Iterator[JobCache]:
    with JobCache(server.url, namespace=NAMESPACE) as cache:
        yield cache


@pytest.fixture(scope="module")
def api(server: RunningServer) -> Iterator[Api]:
    with api_of(server.url, NAMESPACE) as client:
        yield client


class Api:
    """The application in this process, with one event loop for all requests as a worker has."""

    def __init__(self, app: JobApi | FastAPI, cache: AsyncJobCache, *, raises: bool = True) -> None:
        self._cache = cache
        self._loop = asyncio.Runner()
        transport = httpx.ASGITransport(app, raise_app_exceptions=raises)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://web")

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def request(self, method: str, path: str) -> httpx.Response:
        return self._loop.run(self._client.request(method, path))

    def close(self) -> None:
        self._loop.run(self._client.aclose())
        self._loop.run(self._cache.stop())
        self._loop.close()


@contextmanager
def api_of(url: str, namespace: str) -> Iterator[Api]:
    cache = AsyncJobCache(url, namespace=namespace)
    with closing(Api(JobApi(cache), cache)) as api:
        yield api


def get(client: Api, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return strict_json(answer.text)


def strict_json(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def path_of(*names: str) -> str:
    return "/api/jobs/" + "/".join(quote(os.fsencode(name), safe="") for name in names)


def ids(listing: dict[str, Any]) -> list[str]:
    return [job["id"] for job in listing["jobs"]]


def without_ages(value: Any) -> Any:
    """An answer without what depends on the moment of asking."""
    if isinstance(value, dict):
        return {
            key: without_ages(item) for key, item in value.items() if key not in {"duration", "age"}
        }
    return [without_ages(item) for item in value] if isinstance(value, list) else value


class TestAnswers:
    def test_index_names_every_endpoint(self, api: Api) -> None:
        assert set(get(api, "/")["jobcache"]) == {
            "/api/jobs",
            "/api/jobs/running",
            "/api/jobs/recent",
            "/api/jobs/{project}/{group}/{name}",
            "/api/jobs/{project}/{group}/{name}/{run_id}",
            "/api/projects",
            "/api/dashboard/stats",
            "/api/health",
        }

    @pytest.mark.parametrize("status", [None, *JobStatus])
    @pytest.mark.parametrize("project", [None, "speech", ODD_NAMES[0][0]])
    @pytest.mark.parametrize("group", [None, "default", "a+b c"])
    def test_listing_takes_every_filter(
        self,
        api: Api,
        cache: JobCache,
        project: str | None,
        group: str | None,
        status: JobStatus | None,
    ) -> None:
        given = {"project": project, "group": group, "status": status and status.value}
        query = "&".join(f"{key}={quote(os.fsencode(value or ''))}" for key, value in given.items())
        found = get(api, f"/api/jobs?{query}&limit=200")
        expected = cache.list_all_jobs(project, group, status, limit=200)
        assert ids(found) == ["/".join(job.id) for job in expected]
        assert found["total"] == len(cache.list_all_jobs(project, group, status, limit=None))

    def test_pages_hold_every_job_once(self, api: Api, cache: JobCache) -> None:
        seen: list[str] = []
        cursor: Any = ""
        while cursor is not None:
            page = get(api, f"/api/jobs?limit=60&cursor={quote(cursor)}")
            seen += ids(page)
            cursor = page["cursor"]
        assert seen == ["/".join(job.id) for job in cache.list_all_jobs(limit=None)]
        assert page["total"] == len(seen) == 235

    def test_listing_without_a_limit_has_the_default(self, api: Api) -> None:
        assert len(get(api, "/api/jobs")["jobs"]) == 100

    @pytest.mark.parametrize("names", [*ODD_NAMES, DEFAULT_NAMES], ids=repr)
    def test_job_with_any_byte_in_its_path_is_found(self, api: Api, names: Names) -> None:
        job = get(api, path_of(*names))
        told = shown_names(names)
        assert (job["project"], job["group"], job["name"], job["run_id"]) == told
        assert job["id"] == "/".join(told)
        # By the bytes of the directory, and by the names that the answer gave.
        for link in (names, told):
            assert get(api, path_of(*link))["id"] == job["id"]
            assert ids(get(api, path_of(*link[:3]))) == [job["id"]]
            query = f"project={quote(os.fsencode(link[0]))}&group={quote(os.fsencode(link[1]))}"
            assert job["id"] in ids(get(api, f"/api/jobs?{query}"))

    def test_a_job_is_its_fields_and_what_follows_from_them(
        self, api: Api, cache: JobCache
    ) -> None:
        expected = cache.get_job(*DEFAULT_NAMES)
        assert expected is not None
        job = get(api, path_of(*DEFAULT_NAMES))
        assert job.keys() == type(expected).model_fields.keys() | {"id", "duration", "is_stale"}
        assert job["hardware"] == expected.hardware.model_dump()
        assert job["duration"].startswith("1h ")
        assert job["is_stale"] is False
        assert job["started_at"].endswith("+00:00")
        assert job["config"] == {
            "nan": None,
            "deep": [{"inf": None}],
            "lone \uefff": "\\ud800",
            "big": 10**30,
        }

    def test_an_application_of_fastapi_lists_any_name(
        self, server: RunningServer, cache: JobCache
    ) -> None:
        app = FastAPI()

        @app.get("/jobs")
        def jobs() -> list[JobMetadata]:
            return cache.list_all_jobs(limit=None)

        @app.get("/job")
        def job(project: str, group: str, name: str, run_id: str) -> JobMetadata | None:
            return cache.get_job(project, group, name, run_id)

        other = AsyncJobCache(server.url, namespace=NAMESPACE)
        with closing(Api(app, other)) as client:
            found = client.get("/jobs").json()
            named = [(one["project"], one["group"], one["name"], one["run_id"]) for one in found]
            assert {shown_names(names) for names in ODD_NAMES} < set(named)
            for names in map(shown_names, ODD_NAMES):
                query = urlencode(
                    dict(zip(("project", "group", "name", "run_id"), names, strict=True))
                )
                assert client.get(f"/job?{query}").json()["run_id"] == names[3]

    def test_fixed_paths_win_over_names(self, api: Api, cache: JobCache) -> None:
        running = ids(get(api, "/api/jobs/running"))
        assert running == ["/".join(job.id) for job in cache.get_running_jobs()]
        assert len(running) == 13
        recent = ids(get(api, "/api/jobs/recent?hours=2400&limit=3"))
        assert recent == ["/".join(job.id) for job in cache.get_recent_jobs(2400, 3)]

    def test_totals_are_those_of_the_client(self, api: Api, cache: JobCache) -> None:
        assert get(api, "/api/dashboard/stats") == cache.get_dashboard_stats().model_dump()
        expected = [project.model_dump() for project in cache.list_projects()]
        assert get(api, "/api/projects")["projects"] == expected

    @pytest.mark.parametrize(
        "path", ["/api/jobs", "/api/jobs/running", "/api/projects", path_of(*DEFAULT_NAMES)]
    )
    def test_headers_say_how_fresh_and_from_whom(
        self, api: Api, cache: JobCache, path: str
    ) -> None:
        headers = api.get(path).headers
        fresh = cache.freshness()
        assert headers["x-jobcache-state"] == "ready"
        assert headers["x-jobcache-generation"] == str(fresh.generation)
        assert headers["x-jobcache-epoch"] == fresh.epoch
        assert headers["x-jobcache-worker"] == str(os.getpid())
        assert fresh.age is not None
        assert 0 <= float(headers["x-jobcache-age"]) <= fresh.age + 0.001

    def test_health_tells_the_state(self, api: Api) -> None:
        health = get(api, "/api/health")
        assert health["state"] == "ready"
        assert health["reason"] is None
        assert health["worker"] == os.getpid()
        assert health.keys() >= {"age", "generation", "epoch"}

    def test_head_request_has_the_headers_alone(self, api: Api) -> None:
        path = path_of(*ODD_NAMES[0])
        answer = api.request("HEAD", path)
        assert answer.status_code == 200
        assert answer.content == b""
        assert answer.headers["content-length"] == str(len(api.get(path).content))


class TestRefusals:
    @pytest.mark.parametrize(
        ("path", "says"),
        [
            ("/api/jobs?status=done", "status='done'"),
            ("/api/jobs?limit=-1", "limit='-1'"),
            ("/api/jobs?limit=ten", "limit='ten'"),
            ("/api/jobs?limit=0", "limit='0'"),
            ("/api/jobs?limit=201", "limit='201'"),
            ("/api/jobs?limit=%D9%A3", "limit='٣'"),
            ("/api/jobs?cursor=nonsense", "cursor='nonsense'"),
            ("/api/jobs?cursor=bmFuIHg=", "cursor='bmFuIHg='"),  # the score "nan"
            ("/api/jobs/recent?hours=-1", "hours='-1'"),
            ("/api/jobs/recent?hours=nan", "hours='nan'"),
            ("/api/jobs/recent?hours=inf", "hours='inf'"),
            ("/api/jobs/recent?hours=day", "hours='day'"),
            ("/api/jobs/recent?limit=-5", "limit='-5'"),
            ("/api/jobs/recent?limit=1.5", "limit='1.5'"),
        ],
    )
    def test_bad_parameter_is_refused_by_name(self, api: Api, path: str, says: str) -> None:
        answer = api.get(path)
        assert answer.status_code == 400
        assert answer.json().keys() == {"error"}
        assert says in answer.json()["error"]

    @pytest.mark.parametrize(
        "path",
        [
            path_of("no", "such", "job", "here"),
            "/api/jobs/a%2Fb/c/d/e",
            "/api/jobs/%2e%2e/a/b/c",
            "/api/jobs/%00/a/b/c",
            "/api/jobs/a/b",
            "/api/jobs/a/b/c/d/e",
            "/api/jobs/",
            "/nothing",
        ],
    )
    def test_unknown_path_is_not_found(self, api: Api, path: str) -> None:
        answer = api.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"]

    def test_job_name_without_runs_is_an_empty_list(self, api: Api) -> None:
        assert get(api, "/api/jobs/no/such/job")["jobs"] == []

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
    def test_methods_that_write_are_refused(self, api: Api, method: str) -> None:
        answer = api.request(method, "/api/jobs")
        assert answer.status_code == 405
        assert answer.json() == {"error": "Method Not Allowed"}

    @pytest.mark.parametrize(
        "path",
        [
            "/api/jobs",
            "/api/jobs/running",
            "/api/jobs/recent",
            "/api/jobs/p/g/n",
            "/api/jobs/p/g/n/r",
            "/api/projects",
            "/api/dashboard/stats",
            "/api/health",
        ],
    )
    def test_api_without_redis_is_unavailable(self, path: str) -> None:
        with api_of(f"redis://user:secret@127.0.0.1:{free_port()}/0", NAMESPACE) as api:
            answer = api.get(path)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert "secret" not in answer.text
            assert "127.0.0.1" in answer.text
            assert "Traceback" not in answer.text
            assert api.get("/").status_code == 200

    def test_api_gives_old_answers_while_redis_is_away(
        self, server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Configured by the environment; each says that it is an old one, and how old."""
        address, path = server.url.rsplit("@", 1)
        way = tmp_path / "way.sock"
        os.link(path, way)
        monkeypatch.setenv("JOBCACHE_REDIS_URL", f"{address}@{way}?max_connections=1")
        monkeypatch.setenv("JOBCACHE_NAMESPACE", NAMESPACE)
        monkeypatch.setenv("JOBCACHE_STALE_IF_ERROR", "60")
        app = JobApi()
        with closing(Api(app, app._cache)) as api:
            new = api.get("/api/jobs?limit=5")
            assert "x-jobcache-last-good" not in new.headers
            api.get("/api/health")
            way.unlink()
            api._loop.run(app._cache.stop())
            old = api.get("/api/jobs?limit=5")
            assert old.status_code == 200
            assert old.json()["jobs"] == new.json()["jobs"]
            assert old.headers["x-jobcache-last-good"] == "true"
            assert old.headers["x-jobcache-state"] == "degraded"
            assert float(old.headers["x-jobcache-age"]) > float(new.headers["x-jobcache-age"])
            assert old.json()["freshness"]["last_good"] is True
            assert api.get("/api/jobs?limit=6").status_code == 503
            health = api.get("/api/health")
            assert health.status_code == 200
            assert health.json()["reason"]

    def test_api_setting_for_old_answers_that_is_bad_fails_at_start(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for bad in ("soon", "-1", "inf"):
            monkeypatch.setenv("JOBCACHE_STALE_IF_ERROR", bad)
            with pytest.raises(ConfigError, match="JOBCACHE_STALE_IF_ERROR"):
                _ = JobApi()._cache

    def test_api_before_a_refresher_has_run_is_not_ready(
        self, valkey: RunningServer, namespace: str
    ) -> None:
        with api_of(valkey.url, namespace) as api:
            answer = api.get("/api/jobs")
            assert answer.status_code == 503
            assert "no refresher" in answer.json()["error"]
            health = api.get("/api/health")
            assert health.status_code == 503
            assert health.json()["state"] == "absent"
            assert health.headers["retry-after"]

    def test_api_of_a_schema_from_the_future_is_refused(
        self, valkey: RunningServer, namespace: str
    ) -> None:
        with valkey.client() as client:
            fields = {"schema": "99", "state": "ready", "generation": "1"}
            client.hset(Keys(namespace).meta, mapping=fields)
        with api_of(valkey.url, namespace) as api:
            answer = api.get("/api/jobs")
            assert answer.status_code == 500
            assert "schema version 99" in answer.json()["error"]
            health = api.get("/api/health")
            assert health.status_code == 503
            assert "schema version 99" in health.json()["reason"]

    def test_api_of_a_degraded_cache_serves(self, valkey: RunningServer, namespace: str) -> None:
        with valkey.client() as client:
            fields = {
                "schema": str(SCHEMA_VERSION),
                "state": "degraded",
                "reason": "EIO",
                "completed_at": "1",
            }
            client.hset(Keys(namespace).meta, mapping=fields)
        with api_of(valkey.url, namespace) as api:
            health = get(api, "/api/health")
            assert (health["state"], health["reason"]) == ("degraded", "EIO")

    def test_api_defect_shows_nothing_of_itself(self) -> None:
        class Broken(AsyncJobCache):
            async def list_projects(self) -> Any:
                raise RuntimeError("secret")

        cache = Broken("redis://localhost")
        with closing(Api(JobApi(cache), cache, raises=False)) as api:
            answer = api.get("/api/projects")
            assert answer.status_code == 500
            assert answer.json().keys() == {"error"}
            assert "secret" not in answer.text

    @pytest.mark.parametrize(
        ("variable", "value", "says"),
        [
            ("JOBCACHE_REDIS_URL", "", "JOBCACHE_REDIS_URL"),
            ("JOBCACHE_REDIS_URL", "http://u:secret@h", "JOBCACHE_REDIS_URL=http://u:***@h"),
            ("JOBCACHE_NAMESPACE", "a b", "JOBCACHE_NAMESPACE='a b'"),
        ],
    )
    def test_api_of_a_bad_configuration_fails_at_start(
        self, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
    ) -> None:
        monkeypatch.delenv("REDIS_URL", raising=False)
        monkeypatch.setenv("JOBCACHE_REDIS_URL", "redis://localhost")
        monkeypatch.setenv(variable, value)
        sent: list[Any] = []

        async def receive() -> dict[str, str]:
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(JobApi()({"type": "lifespan"}, receive, send))
        assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
        assert says in sent[0]["message"]
        assert "\n" not in sent[0]["message"]
        assert "secret" not in sent[0]["message"]


# Real workers

WORKERS = 4

SEPARATE_CLIENT = """
import json, sys, time
from jobcache import JobCache
from jobcache.jsontext import dumps_for_web
from tests.integration.test_web import digest
from jobcache.web.answers import show_job

url, namespace, seconds = sys.argv[1:]
ends = time.monotonic() + float(seconds)
with JobCache(url, namespace=namespace) as cache:
    while time.monotonic() < ends:
        page = cache.page(limit=200)
        jobs = json.loads(dumps_for_web([show_job(job) for job in page.jobs]))
        answer = {"jobs": jobs, "total": page.total, "cursor": page.cursor}
        print("jobs", page.freshness.epoch, page.freshness.generation, digest(answer))
        stats = cache.get_dashboard_stats()
        fresh = cache.last_freshness
        print("stats", fresh.epoch, fresh.generation, digest(stats.model_dump()), flush=True)
        time.sleep(0.02)
"""


class Sighting(NamedTuple):
    """An answer that someone got."""

    what: str
    epoch: str
    generation: str
    digest: str


def digest(answer: dict[str, Any]) -> str:
    """A fingerprint of an answer, without what depends on the moment of asking."""
    kept = without_ages({key: value for key, value in answer.items() if key != "freshness"})
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def gunicorn(directory: Path, url: str, namespace: str) -> Iterator[WebWorkers]:
    """Four workers, once one answers."""
    with WebWorkers(
        directory, redis_url=url, namespace=namespace, port=0, count=WORKERS
    ) as workers:
        workers.start(threading.Event().wait)
        yield workers


@pytest.fixture(scope="module")
def workers(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebWorkers]:
    """Workers over the tree that does not change."""
    with gunicorn(tmp_path_factory.mktemp("gunicorn"), server.url, NAMESPACE) as workers:
        yield workers


def ask(workers: WebWorkers, path: str) -> httpx.Response:
    """One request on a connection of its own, so that any worker may take it."""
    return httpx.get(f"{workers.url}{path}", timeout=10, trust_env=False)


def see_every_worker(workers: WebWorkers) -> dict[int, list[httpx.Response]]:
    """Ask until every worker has answered."""
    answers: dict[int, list[httpx.Response]] = {}
    ends = time.monotonic() + 15
    with ThreadPoolExecutor(8) as pool:
        while len(answers) < WORKERS and time.monotonic() < ends:
            for answer in pool.map(lambda _: ask(workers, "/api/jobs?limit=200"), range(16)):
                answers.setdefault(int(answer.headers["x-jobcache-worker"]), []).append(answer)
    return answers


def test_workers_answer_alike_and_never_touch_the_tree(
    workers: WebWorkers, tree: Path, tmp_path: Path
) -> None:
    strace = require("strace")
    pids = see_every_worker(workers)
    trace = tmp_path / "trace"
    attach = [part for pid in pids for part in ("-p", str(pid))]
    # utimensat() and the like are how a worker shows gunicorn that it lives: they prove that the trace works.
    command = [strace, "-f", "-y", "-s", "4096", "-e", "trace=file,fchmod,utimensat", "-o"]
    process = subprocess.Popen([*command, str(trace), *attach], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "Operation not permitted" in line:
                missing("the permission to trace processes")
            if line.count("attached"):
                break
        time.sleep(0.5)  # the other workers
        answers = [one for some in see_every_worker(workers).values() for one in some]
        for path in ("/api/jobs/running", "/api/projects", path_of(*DEFAULT_NAMES), "/api/health"):
            answers += [ask(workers, path) for _ in range(4)]
        time.sleep(1.2)  # more than one sign of life
    finally:
        process.terminate()
        process.wait(10)
    assert all(answer.status_code == 200 for answer in answers)
    calls = trace.read_text("utf-8", "replace")
    traced = {int(pid) for pid in re.findall(r"^(\d+) +\w+\(", calls, re.MULTILINE)}
    assert traced >= pids.keys(), "the trace saw not every worker"
    assert str(tree) not in calls

    assert len(pids) >= 2
    listings = [one for one in answers if b'"cursor"' in one.content]
    listings += [one for some in pids.values() for one in some]
    assert len({one.headers["x-jobcache-generation"] for one in listings}) == 1
    assert len({digest(one.json()) for one in listings}) == 1


def test_any_byte_reaches_a_job_through_gunicorn(workers: WebWorkers) -> None:
    for names in ODD_NAMES:
        answer = ask(workers, path_of(*names))
        assert answer.status_code == 200
        assert strict_json(answer.text)["id"] == "/".join(shown_names(names))
    project = quote(os.fsencode(ODD_NAMES[0][0]))
    assert ask(workers, f"/api/jobs?project={project}").json()["total"] == 1
    head = httpx.head(f"{workers.url}/api/jobs", trust_env=False)
    assert (head.status_code, head.content) == (200, b"")


def test_workers_and_separate_clients_agree_while_jobs_change(
    valkey: RunningServer, namespace: str, status_dir: Path, tmp_path: Path
) -> None:
    with (
        changing_jobs(status_dir, valkey.url, namespace),
        gunicorn(tmp_path, valkey.url, namespace) as workers,
    ):
        seen = watch(workers, valkey.url, namespace, seconds=3.0)

    assert sum(who.startswith("worker") for who in seen) >= 2
    assert sum(who.startswith("client") for who in seen) == 3
    digests: dict[tuple[str, ...], set[str]] = {}
    observers: dict[tuple[str, ...], set[str]] = {}
    for who, sightings in seen.items():
        for *moment, answer in sightings:
            digests.setdefault(tuple(moment), set()).add(answer)
            observers.setdefault(tuple(moment), set()).add(who)
    assert [moment for moment, several in digests.items() if len(several) > 1] == []
    assert sum(len(several) >= 3 for several in observers.values()) >= 5, "too little was compared"
    changed = {one for moment, several in digests.items() for one in several if "jobs" in moment}
    assert len(changed) >= 5, "the jobs did not change"


@contextmanager
def changing_jobs(status_dir: Path, url: str, namespace: str) -> Iterator[None]:
    """Thirty live jobs that start, beat and end within seconds, and a refresher."""
    stop = threading.Event()
    producer = Producer(status_dir, jobs=30, pace=20)
    producer.step(time.time())
    writing = threading.Thread(target=producer.run, args=(stop,))
    writing.start()
    try:
        with Refresher(status_dir, poll_interval=0.25, url=url, namespace=namespace, settle=0.1):
            yield
    finally:
        stop.set()
        writing.join()


def watch(
    workers: WebWorkers, url: str, namespace: str, *, seconds: float
) -> dict[str, set[Sighting]]:
    """What every worker and three separate processes answered meanwhile, by who it was."""
    command = [sys.executable, "-c", SEPARATE_CLIENT, url, namespace, str(seconds)]
    root = Path(__file__).parents[2]
    clients = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(3)
    ]
    seen: dict[str, set[Sighting]] = {}
    try:
        ends = time.monotonic() + seconds + 1.0  # the clients have to start
        while time.monotonic() < ends:
            for what, path in {
                "jobs": "/api/jobs?limit=200",
                "stats": "/api/dashboard/stats",
            }.items():
                answer = ask(workers, path)
                assert answer.status_code == 200, answer.text
                epoch, generation, pid = (
                    answer.headers[f"x-jobcache-{name}"]
                    for name in ("epoch", "generation", "worker")
                )
                sighting = Sighting(what, epoch, generation, digest(answer.json()))
                seen.setdefault(f"worker {pid}", set()).add(sighting)
        for client in clients:
            lines = client.communicate(timeout=20)[0].splitlines()
            assert client.returncode == 0
            seen[f"client {client.pid}"] = {Sighting(*line.split()) for line in lines}
    finally:
        for client in clients:
            client.kill()
            client.wait()
    return seen
