"""``make demo``: it shows what it says, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from jobcache_refresher.demo.workers import PREFERRED_PORT, DemoError, WebWorkers, free_port

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="looks for left-over processes in /proc"
)


class Demo:
    """A demonstration in a process of its own; whatever it starts has its temporary directory in the environment."""

    def __init__(self, temporary: Path, *arguments: str, **environment: str) -> None:
        self.temporary = temporary
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jobcache_refresher.demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(temporary), **environment},
        )
        self.said = ""

    def read_until(self, pattern: str, timeout: float = 20) -> None:
        """Read what it prints until a line matches."""
        assert self.process.stdout is not None
        ends = time.monotonic() + timeout
        for line in iter(self.process.stdout.readline, ""):
            self.said += line
            if re.search(pattern, line):
                return
            assert time.monotonic() < ends
        raise AssertionError(f"it ended: {self.said}{self.finish()}")

    def found(self, pattern: str) -> str:
        """The part of what it printed that the group of a pattern matches."""
        match = re.search(pattern, self.said)
        assert match is not None, self.said
        return match[1]

    def finish(self, timeout: float = 10) -> str:
        """Wait for its end; returns what it printed since, errors included."""
        return "".join(self.process.communicate(timeout=timeout))

    def left_processes(self) -> list[int]:
        """Processes that still have its temporary directory in their environment."""
        mark = f"TMPDIR={self.temporary}".encode()
        left = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    left.append(int(entry.name))
            except OSError:  # it ended meanwhile
                continue
        return left

    def is_whole(self) -> bool:
        """Whether there are itself, the server, gunicorn, its four workers and the two shells that watch."""
        return len(self.left_processes()) >= 9

    def assert_nothing_left(self, timeout: float = 0) -> None:
        await_(lambda: not self.left_processes(), timeout)
        await_(lambda: not os.listdir(self.temporary), timeout)


def await_(condition: Callable[[], bool], timeout: float) -> float:
    """Wait until a condition holds; returns how many seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began <= timeout
        time.sleep(0.1)
    return time.monotonic() - began


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Start a demonstration; it ends with the test, as does all that it started."""
    temporary = tmp_path / "t"
    temporary.mkdir()
    started: list[Demo] = []

    def start(*arguments: str, **environment: str) -> Demo:
        started.append(Demo(temporary, *arguments, **environment))
        return started[-1]

    yield start
    for demo in started:
        demo.process.kill()
        demo.process.communicate()
        for pid in demo.left_processes():
            os.kill(pid, signal.SIGKILL)


def test_demo_shows_what_it_says_until_interrupted(start: Callable[..., Demo]) -> None:
    demo = start("--jobs", "60")
    demo.read_until(r"^\d\d:\d\d:\d\d  \d+ jobs, \d+ running, 0 stale, generation \d+, scanned ")
    page = demo.found(r"page +(http\S+/)\n")
    with httpx.Client(base_url=page, trust_env=False) as client:
        assert "jobcache" in client.get("/").json()
        assert client.get("/api/health").json()["state"] == "ready"
        counts = client.get("/api/dashboard/stats").json()
        assert counts["total_jobs"] >= 60
        assert counts["running"] > 0

        tried = demo.found(r"curl -s '(\S+status=running\S+)' \|")
        assert len(client.get(tried).json()["jobs"]) == 3
        redis_url, key = re.findall(
            r"redis-cli -u (\S+) ZREVRANGE '(\S+)' 0 4 WITHSCORES", demo.said
        )[0]
        assert redis_url == demo.found(r"redis +(redis://\S+)\n")
        with Redis.from_url(redis_url, protocol=2) as redis:
            assert len(redis.zrevrange(key, 0, 4)) == 5

        run_url = demo.found(r"curl -s (\S+/api/jobs/\S+) \| python3")
        run = Path(demo.found(r"rm -r (\S+)"))
        assert run.is_relative_to(demo.found(r"status dir +(\S+)"))
        assert client.get(run_url).json()["run_id"] == run.name
        shutil.rmtree(run)
        await_(lambda: client.get(run_url).status_code == 404, timeout=10)

    assert (
        len(demo.left_processes()) >= 8
    )  # itself, the server, gunicorn, four workers and two shells
    demo.process.send_signal(signal.SIGINT)
    assert demo.finish(timeout=6).rstrip().endswith("stopping")
    assert demo.process.returncode == 0
    demo.assert_nothing_left()


def test_demo_killed_leaves_nothing(start: Callable[..., Demo]) -> None:
    demo = start("--jobs", "20")
    demo.read_until("generation")
    await_(demo.is_whole, timeout=5)
    demo.process.kill()
    demo.process.wait()
    demo.assert_nothing_left(timeout=8)


def test_demo_terminated_at_any_moment_leaves_nothing(start: Callable[..., Demo]) -> None:
    for moment in (0.6, 1.0):
        demo = start("--jobs", "20")
        time.sleep(moment)
        demo.process.terminate()
        said = demo.finish()
        assert demo.process.returncode in {0, -signal.SIGTERM}, said  # the latter before it listens
        assert "Traceback" not in said
        demo.assert_nothing_left(timeout=1)


def test_demo_ends_by_itself_and_takes_a_port(start: Callable[..., Demo]) -> None:
    port = free_port()
    demo = start("--jobs", "20", "--seconds", "0.5", "--port", str(port))
    said = demo.finish(timeout=20)
    assert f"http://127.0.0.1:{port}/" in said
    assert demo.process.returncode == 0
    demo.assert_nothing_left()


def test_demo_ends_when_nobody_reads_on(start: Callable[..., Demo]) -> None:
    demo = start("--jobs", "20")
    demo.read_until("generation")
    assert demo.process.stdout is not None
    demo.process.stdout.close()
    assert demo.process.wait(10) == 0
    assert demo.process.stderr is not None
    assert demo.process.stderr.read() == ""
    demo.assert_nothing_left()


def test_demo_ends_when_gunicorn_does(start: Callable[..., Demo]) -> None:
    demo = start("--jobs", "20")
    demo.read_until("generation")
    gunicorn = [
        pid
        for pid in demo.left_processes()
        if b"jobcache.web:app" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        and Path(f"/proc/{pid}/exe").resolve() == Path(sys.executable).resolve()
    ]
    os.kill(min(gunicorn), signal.SIGKILL)
    assert "demo: gunicorn ended with code 137" in demo.finish()
    assert demo.process.returncode == 1
    demo.assert_nothing_left(timeout=3)  # the workers notice within a second


def test_demo_on_a_port_in_use_says_so(start: Callable[..., Demo]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        demo = start("--port", str(port))
        assert demo.finish() == f"demo: --port {port}: Address already in use\n"
    assert demo.process.returncode == 1
    demo.assert_nothing_left()


def test_demo_whose_gunicorn_does_not_start_says_why(start: Callable[..., Demo]) -> None:
    demo = start("--jobs", "20", GUNICORN_CMD_ARGS="--nonsense")
    said = demo.finish(timeout=20)
    assert re.fullmatch(r"demo: gunicorn ended with code 2: .*--nonsense\n", said)
    assert demo.process.returncode == 1
    demo.assert_nothing_left()


@pytest.mark.parametrize(
    "arguments", [("--jobs", "0"), ("--jobs", "many"), ("--seconds", "nan"), ("--seconds", "-1")]
)
def test_demo_with_bad_arguments_is_one_line(
    start: Callable[..., Demo], arguments: tuple[str, str]
) -> None:
    demo = start(*arguments)
    said = demo.finish()
    assert demo.process.returncode == 2
    assert f"argument {arguments[0]}: '{arguments[1]}': use a " in said
    demo.assert_nothing_left()


def test_demo_takes_ports_beside_each_other(tmp_path: Path) -> None:
    """Two demonstrations at once take two ports."""
    settings = {"redis_url": "redis://localhost", "namespace": "demo", "port": None}
    with WebWorkers(tmp_path, **settings) as one, WebWorkers(tmp_path, **settings) as other:  # type: ignore[arg-type]
        assert one.port != other.port
        assert min(one.port, other.port) >= PREFERRED_PORT
        with pytest.raises(DemoError, match=f"--port {one.port}: "):
            WebWorkers(tmp_path, redis_url="redis://localhost", namespace="demo", port=one.port)
