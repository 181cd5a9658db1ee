"""Under every kind of worker, preloaded: right answers, nothing shared, and a hung Redis kills none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.harness import Rig
from tests.programs import environment, wait_for
from tests.servers import RunningServer, running_server
from tests.tools import free_port
from tests.trees import Names, write_run

NAMESPACE = "gunicorn"
RUNS: list[Names] = [("p", "g", f"n{number}", "r") for number in range(20)]
WORKERS = 2
POOL = 4
"""As the applications have it."""
AT_ONCE = 24
"""Requests, more than all pools have connections."""
TIMEOUT = 2
"""gunicorn's, in seconds: a worker that is held up for longer is killed."""
KINDS = {
    "sync": ("tests.apps.wsgi:app",),
    "gthread": ("tests.apps.wsgi:app", "--threads", "12"),
    "gevent": ("tests.apps.wsgi:app",),
    "asgi": ("tests.apps.asgi:app",),
}


class Answer(NamedTuple):
    """What a worker said, and after how many seconds."""

    status: int
    text: str
    worker: int
    took: float


@dataclass
class Gunicorn:
    """A running one."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def workers(self) -> set[int]:
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as children:
            return set(map(int, children.read().split()))

    def ask(self, names: Names) -> Answer:
        """On a connection of its own."""
        began = time.monotonic()
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("GET", f"/{'/'.join(names)}")
            answer = connection.getresponse()
            text = answer.read().decode()
        worker = int(answer.headers["x-jobcache-worker"])
        return Answer(answer.status, text, worker, time.monotonic() - began)


@contextmanager
def gunicorn(kind: str, server: RunningServer, directory: Path) -> Iterator[Gunicorn]:
    """Workers of one kind, once one answers."""
    log = directory / "log"
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--preload", "-k", kind, *KINDS[kind]]
    command += ["-w", str(WORKERS), "-b", f"127.0.0.1:{port}", "--timeout", str(TIMEOUT)]
    command += ["--graceful-timeout", "2", "--no-control-socket"]
    variables = {"JOBCACHE_REDIS_URL": server.url, "JOBCACHE_NAMESPACE": NAMESPACE}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=environment(**variables), start_new_session=True
        )
    running = Gunicorn(process, port, log)
    try:
        wait_for(lambda: answers(running), 20)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(running: Gunicorn) -> bool:
    assert running.process.poll() is None, running.log.read_text()
    try:
        return running.ask(RUNS[0]).status == 200
    except (OSError, HTTPException):
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server on a port, so that the sockets that lead to it can be told."""
    status_dir = tmp_path_factory.mktemp("gunicorn") / "status"
    for names in RUNS:
        write_run(status_dir, names)
    port = free_port()
    with running_server("valkey-9", "--port", str(port), "--bind", "127.0.0.1") as server:
        with Rig(server.url, status_dir, NAMESPACE) as rig:
            rig.settle()
        yield RunningServer(server.kind, f"redis://127.0.0.1:{port}/0", server.pid)


def sockets_to(server: RunningServer, pid: int) -> set[str]:
    """The sockets of a process that lead to a server, by inode."""
    port = f"{int(server.url.split(':')[2].removesuffix('/0')):04X}"
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    inodes = {row[9] for row in rows if row[2].endswith(f":{port}") and row[3] == "01"}
    held = set()
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
        except FileNotFoundError:
            continue
        held.add(target.removeprefix("socket:[").removesuffix("]"))
    return inodes & held


def assert_each_answers_right(running: Gunicorn, pool: ThreadPoolExecutor) -> set[int]:
    """Ask under load until every worker has answered; which they are."""
    seen: set[int] = set()
    ends = time.monotonic() + 20
    while len(seen) < WORKERS or time.monotonic() < ends - 19.5:
        assert time.monotonic() < ends, seen
        for names, answer in zip(RUNS * 3, pool.map(running.ask, RUNS * 3), strict=True):
            assert answer.status == 200, answer.text
            assert json.loads(answer.text) == list(names)
            seen.add(answer.worker)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_preloaded_workers_have_connections_of_their_own(
    kind: str, server: RunningServer, tmp_path: Path
) -> None:
    with gunicorn(kind, server, tmp_path) as running, ThreadPoolExecutor(AT_ONCE) as pool:
        workers = assert_each_answers_right(running, pool)
        assert workers == running.workers()
        held = [sockets_to(server, pid) for pid in (running.process.pid, *workers)]
        assert sum(map(len, held)) == len(set().union(*held)), "a connection is shared"
        assert all(1 <= len(sockets) <= POOL for sockets in held[1:])
        assert server.pid
        os.kill(server.pid, signal.SIGSTOP)
        try:
            assert_all_fail_in_time(running, pool)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        wait_for(lambda: serves_again(running, pool, workers), 1.5)
        assert assert_each_answers_right(running, pool) == workers == running.workers()
        log = running.log.read_text()
        assert "WORKER TIMEOUT" not in log
        assert "Traceback" not in log


def serves_again(running: Gunicorn, pool: ThreadPoolExecutor, workers: set[int]) -> bool:
    """While one call finds out that the server is back, others are still sent away."""
    found = list(pool.map(running.ask, RUNS))
    assert all(answer.took < 1.2 for answer in found)
    return {answer.worker for answer in found if answer.status == 200} == workers


def assert_all_fail_in_time(running: Gunicorn, pool: ThreadPoolExecutor) -> None:
    """For longer than a worker may be held up."""
    ends = time.monotonic() + TIMEOUT + 0.5
    while time.monotonic() < ends:
        for answer in pool.map(running.ask, RUNS[:12] * 2):
            assert answer.status == 503, answer.text
            assert answer.took < 1.2, answer.text
