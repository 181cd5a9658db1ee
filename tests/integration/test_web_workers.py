"""The JSON API as gunicorn workers that must agree and never touch the tree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import httpx
import pytest

from jobcache_refresher import Refresher
from jobcache_refresher.demo.producer import Producer
from jobcache_refresher.demo.workers import WebWorkers
from tests.integration.web import DEFAULT_NAMES, NAMESPACE, ODD_NAMES, digest, path_of, strict_json
from tests.servers import RunningServer, missing
from tests.tools import require
from tests.trees import shown_names

# Real workers

WORKERS = 4


SEPARATE_CLIENT = """
import json, sys, time
from jobcache import JobCache
from jobcache.jsontext import dumps_for_web
from tests.integration.web import digest
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
    web_server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebWorkers]:
    """Workers over the tree that does not change."""
    with gunicorn(tmp_path_factory.mktemp("gunicorn"), web_server.url, NAMESPACE) as workers:
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
    workers: WebWorkers, web_tree: Path, tmp_path: Path
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
    assert str(web_tree) not in calls

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
