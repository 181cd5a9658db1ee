"""The JSON API, in process against a small tree."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from fastapi import FastAPI

from jobcache import AsyncJobCache, ConfigError, JobCache, JobMetadata, JobStatus
from jobcache.schema.keys import SCHEMA_VERSION, Keys
from jobcache.web import JobApi
from tests.integration.web import (
    DEFAULT_NAMES,
    NAMESPACE,
    ODD_NAMES,
    Api,
    api_of,
    get,
    ids,
    path_of,
)
from tests.servers import RunningServer
from tests.tools import free_port
from tests.trees import Names, shown_names


@pytest.fixture(scope="module")
def cache(web_server: RunningServer) -> Iterator[JobCache]:
    with JobCache(web_server.url, namespace=NAMESPACE) as cache:
        yield cache


@pytest.fixture(scope="module")
def api(web_server: RunningServer) -> Iterator[Api]:
    with api_of(web_server.url, NAMESPACE) as client:
        yield client


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
            "/api/problems",
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

    @pytest.mark.parametrize(
        ("query", "wanted"),
        [
            ("status=failed&status=completed", {"status": ["failed", "completed"]}),
            ("status=live&project=", {"status": "live"}),
            ("status=&status=stale&order=activity", {"status": "stale", "order": "activity"}),
            ("order=&text=", {}),
            ("order=activity", {"order": "activity"}),
            ("text=R+1", {"text": "r 1"}),
            ("started_after=36h", {"started_after": timedelta(hours=36)}),
            (
                "active_before=2026-02-04T09:44:35%2B02:00",
                {"active_before": datetime.fromisoformat("2026-02-04T09:44:35+02:00")},
            ),
        ],
    )
    def test_listing_filters_mean_what_they_mean_in_python(
        self, api: Api, cache: JobCache, query: str, wanted: dict[str, Any]
    ) -> None:
        expected = cache.page(**wanted, limit=1000)
        found = get(api, f"/api/jobs?{query}&limit=1000")
        assert ids(found) == ["/".join(job.id) for job in expected.jobs]
        assert (found["total"], found["cursor"]) == (expected.total, expected.cursor)

    def test_cursor_of_other_filters_is_refused(self, api: Api) -> None:
        cursor = get(api, "/api/jobs?limit=1")["cursor"]
        answer = api.get(f"/api/jobs?limit=1&order=activity&cursor={cursor}")
        assert answer.status_code == 400
        assert "it was made by a page with other filters" in answer.json()["error"]

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
        assert job.keys() == {*JobMetadata.model_fields, *JobMetadata.model_computed_fields}
        assert job["hardware"] == expected.hardware.model_dump()
        assert job["duration"] == expected.duration
        assert job["duration_seconds"] == expected.duration_seconds
        assert job["is_stale"] is False
        assert job["started_at"].endswith("+00:00")
        assert job["config"] == {
            "nan": None,
            "deep": [{"inf": None}],
            "lone \uefff": "\\ud800",
            "big": 10**30,
        }

    def test_an_application_of_fastapi_lists_any_name(
        self, web_server: RunningServer, cache: JobCache
    ) -> None:
        app = FastAPI()

        @app.get("/jobs")
        def jobs() -> list[JobMetadata]:
            return cache.list_all_jobs(limit=None)

        @app.get("/job")
        def job(project: str, group: str, name: str, run_id: str) -> JobMetadata | None:
            return cache.get_job(project, group, name, run_id)

        other = AsyncJobCache(web_server.url, namespace=NAMESPACE)
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
            ("/api/jobs?limit=1001", "limit='1001'"),
            ("/api/jobs?limit=%D9%A3", "limit='٣'"),
            ("/api/jobs?status=failed&status=done", "status='done'"),
            ("/api/jobs?order=name", "order='name'"),
            ("/api/jobs?started_after=2026-02-04", "started_after='2026-02-04'"),
            ("/api/jobs?active_before=soon", "active_before='soon'"),
            ("/api/jobs?text=" + "x" * 1001, "text: 1001"),
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
        self, web_server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Configured by the environment; each says that it is an old one, and how old."""
        address, path = web_server.url.rsplit("@", 1)
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

    def test_argument_that_a_call_refuses_is_a_bad_request(self) -> None:
        class Refusing(AsyncJobCache):
            async def list_projects(self) -> Any:
                raise ValueError("cursor='x': pass what a page gave, unchanged")

        cache = Refusing("redis://localhost")
        with closing(Api(JobApi(cache), cache)) as api:
            answer = api.get("/api/projects")
            assert answer.status_code == 400
            assert answer.json() == {"error": "cursor='x': pass what a page gave, unchanged"}

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
