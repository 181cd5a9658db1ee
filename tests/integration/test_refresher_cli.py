"""``jobcache-refresher``, as a shell runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from jobcache import CacheState, JobCache
from jobcache.schema.keys import Keys
from jobcache_refresher import Refresher, Settings
from tests.programs import (
    JOBCACHE,
    REFRESHER,
    Args,
    assert_one_line,
    is_alive,
    read_until,
    run,
    run_on_terminal,
    started,
    wait_for,
)
from tests.servers import RunningServer, running_server
from tests.trees import write_run
from tests.volumes import Volumes, volumes

__all__ = ["volumes"]

NOWHERE = "redis://:secret@127.0.0.1:1"
LOG_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} "


@pytest.fixture
def target(valkey: RunningServer, status_dir: Path, namespace: str) -> tuple[str, ...]:
    """The options of a refresher of one run, on a namespace of its own."""
    write_run(status_dir, ("p", "g", "n", "r"))
    return (
        *("--url", valkey.url, "--namespace", namespace, "--status-dir", str(status_dir)),
        *("--poll-interval", "0.2"),
    )


@pytest.fixture
def meta(valkey: RunningServer, namespace: str) -> Iterator[tuple[Redis, Keys]]:
    """A plain connection, and the names of the keys."""
    with valkey.client() as client:
        yield client, Keys(namespace)


def patched(statements: str) -> Args:
    """The program with something of it replaced."""
    return (
        sys.executable,
        "-c",
        f"{statements}\nfrom jobcache_refresher.cli import main\nmain()",
    )


HANGS = "import threading\ndef hang(*args): threading.Event().wait()\n"
HANGS_IN_SCAN = patched(
    f"{HANGS}from jobcache_refresher.scan.tree import Tree\nTree.read_whole = hang"
)
HANGS_AT_START = patched(
    f"{HANGS}from jobcache_refresher.settings import Settings\nSettings.check_status_dir = hang"
)
READS_SLOWLY = patched(
    "import time\nfrom jobcache_refresher.scan.tree import Tree\nread = Tree.read_whole\n"
    "def slowly(*args):\n    time.sleep(0.02)\n    return read(*args)\nTree.read_whole = slowly"
)
DENIED = patched(
    "import os\nfrom jobcache_refresher import settings\nclass Denied:\n    environ = os.environ\n"
    "    def scandir(path): raise PermissionError(13, 'Permission denied')\nsettings.os = Denied"
)


# Options


def test_every_setting_is_an_option_with_its_variable_and_default() -> None:
    for command in ("run", "up"):
        shown = squeezed(run(REFRESHER, command, "--help").stdout)
        for name, field in Settings.model_fields.items():
            if command == "up" and name in {"url", "password_file"}:
                continue
            assert f"--{name.replace('_', '-')}" in shown
            assert f"[{Settings.environment_names()[name]}" in shown
            assert squeezed(field.description or "?") in shown


def squeezed(text: str) -> str:
    """The text without what wrapping may add or take."""
    return "".join(text.split())


@pytest.mark.parametrize(
    ("args", "parts", "code"),
    [
        (["run", "--status-dir", "/"], ["no Redis URL", "JOBCACHE_REDIS_URL"], 2),
        (["run", "--url", NOWHERE], ["--status-dir", "JOBCACHE_STATUS_DIR", "not set"], 2),
        (["run", "--url", NOWHERE, "--status-dir", "/nowhere"], ["status_dir='/nowhere'"], 2),
        (["once", "--url", NOWHERE, "--status-dir", __file__], ["status_dir=", "Not a dir"], 2),
        (["up", "--status-dir", "/nowhere"], ["status_dir='/nowhere'"], 2),
        (["up", "--status-dir", "/", "--port", "99999"], ["--port", "99999"], 2),
        (["run", "--status-dir", "/", "--url", NOWHERE], ["127.0.0.1:1", "refused"], 3),
        (["once", "--status-dir", "/", "--url", NOWHERE], ["127.0.0.1:1", "refused"], 3),
        (["check", "--status-dir", "/", "--url", NOWHERE], ["127.0.0.1:1", "refused"], 3),
        (["release", "--url", NOWHERE], ["127.0.0.1:1", "refused"], 3),
        (["run", "--status-dir", "/", "--url", "ftp://u:secret@h"], ["--url=ftp://u:***@h"], 2),
        (["once", "--status-dir", "/", "--namespace", "a\nb"], ["--namespace='a\\nb'"], 2),
        (["check", "--status-dir", "/", "--mode", "fast"], ["--mode='fast'"], 2),
        (["run", "--status-dir", "/", "--poll-interval", "-1"], ["--poll-interval='-1'"], 2),
        (["run", "--status-dir", "/", "--hold-minimum", "x"], ["--hold-minimum='x'"], 2),
        (["run", "--status-dir", "/", "--timezone", "Mars/Base"], ["--timezone='Mars/Base'"], 2),
        (["run", "--frobnicate"], ["--frobnicate"], 2),
        (["frobnicate"], ["'frobnicate'"], 2),
        ([], ["Missing command"], 2),
    ],
)
def test_bad_input_is_one_line(args: list[str], parts: list[str], code: int) -> None:
    assert_one_line(run(REFRESHER, *args), "jobcache-refresher", *parts, code=code)


def test_a_bad_variable_is_named() -> None:
    for variable, value in (
        ("JOBCACHE_REDIS_URL", "ftp://u:secret@h"),
        ("REDIS_URL", "ftp://u:secret@h"),
        ("JOBCACHE_POLL_INTERVAL", "soon"),
    ):
        env = {"JOBCACHE_STATUS_DIR": "/", variable: value}
        result = run(REFRESHER, "run", env=env)
        assert_one_line(result, "jobcache-refresher", f"{variable}=", code=2)


def test_an_unreadable_status_directory_is_named(target: tuple[str, ...]) -> None:
    for command in ("run", "once", "up"):
        args = target[4:] if command == "up" else target
        result = run(DENIED, command, *args)
        parts = ("status_dir=", "Permission denied")
        assert_one_line(result, "jobcache-refresher", *parts, code=2)


def test_a_schema_from_the_future_is_left_alone(
    target: tuple[str, ...], meta: tuple[Redis, Keys]
) -> None:
    client, keys = meta
    for field, value in (("schema", "99"), ("epoch", "1.0"), ("state", "ready")):
        client.hset(keys.meta, field, value)
    for command in ("run", "once", "check"):
        result = run(REFRESHER, command, *target, "--log-level", "error")
        lines = result.stderr.splitlines()
        assert result.returncode == 5, result
        assert lines[-1].startswith("jobcache-refresher: ")
        assert "schema version 99" in lines[-1]
        assert "Traceback" not in result.stderr
    assert client.hget(keys.meta, "schema") == b"99"
    assert client.exists(keys.lease, keys.jobs) == 0


@pytest.mark.parametrize("library", ["click", "rich"])
def test_a_base_install_says_what_to_install(library: str) -> None:
    result = run(patched(f"import sys; sys.modules[{library!r}] = None"), "run")
    parts = (library, "with the extra 'refresher'")
    assert_one_line(result, "jobcache-refresher", *parts, code=2)


# once


def test_once_scans_once(target: tuple[str, ...], meta: tuple[Redis, Keys]) -> None:
    target = (*target, "--poll-interval", "5")  # so that programs may take a while to start
    result = run(REFRESHER, "once", *target)
    assert (result.returncode, result.stdout) == (0, "1 jobs\n")
    assert re.search(rf"{LOG_TIME}INFO +scan: 1 jobs in \d", result.stderr, re.MULTILINE)
    assert meta[0].exists(meta[1].lease) == 0
    assert run(REFRESHER, "check", *target).returncode == 0


def test_once_keeps_its_lease_through_a_long_scan(
    target: tuple[str, ...], status_dir: Path
) -> None:
    for number in range(70):
        write_run(status_dir, ("p", "g", "n", f"r{number}"))
    slow = (*target, "--scan-threads", "1", "--lease-ttl", "1")
    assert run(READS_SLOWLY, "once", *slow).stdout == "71 jobs\n"


def test_once_says_who_leads(target: tuple[str, ...], meta: tuple[Redis, Keys]) -> None:
    meta[0].set(meta[1].lease, "elsewhere 1")
    assert_one_line(
        run(REFRESHER, "once", *target), "jobcache-refresher", "lease: elsewhere 1", code=3
    )


def test_once_does_not_believe_a_root_that_turned_empty(
    target: tuple[str, ...], status_dir: Path
) -> None:
    assert run(REFRESHER, "once", *target).returncode == 0
    shutil.rmtree(status_dir / "p")
    result = run(REFRESHER, "once", *target)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("turned empty")


# run


def stop(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, float, str]:
    """Signal a process; its exit code, the seconds it took to end, and the rest of its log."""
    began = time.monotonic()
    process.send_signal(number)
    _, logged = process.communicate(timeout=10)
    return process.returncode, time.monotonic() - began, logged


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_run_and_gives_the_lease_back(
    target: tuple[str, ...], meta: tuple[Redis, Keys], number: signal.Signals
) -> None:
    client, keys = meta
    with started(REFRESHER, "run", *target) as process:
        logged = read_until(process.stderr, "first scan: 1 jobs in")
        assert all(re.match(LOG_TIME, line) for line in logged.splitlines())
        assert client.exists(keys.lease) == 1
        code, seconds, rest = stop(process, number)
    assert (code, "Traceback" in rest) == (0, False)
    assert seconds < 3
    assert client.exists(keys.lease) == 0


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal: a busy machine takes a while to start Python."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> (number - 1) & 1)  # type: ignore[index]


@pytest.mark.parametrize(
    ("program", "command"),
    [(HANGS_IN_SCAN, "run"), (HANGS_AT_START, "run"), (HANGS_IN_SCAN, "once")],
)
def test_a_hung_filesystem_delays_no_signal(
    target: tuple[str, ...], meta: tuple[Redis, Keys], status_dir: Path, program: Args, command: str
) -> None:
    client, keys = meta
    write_run(status_dir, ("p", "g", "n", "s"))  # two runs: read by threads of the pool
    with started(program, command, *target) as process:
        if program is HANGS_IN_SCAN:
            wait_for(lambda: bool(client.exists(keys.lease)))
        wait_for(lambda: catches(process.pid, signal.SIGTERM))
        time.sleep(0.7)
        code, seconds, _ = stop(process, signal.SIGTERM)
    assert code == (0 if command == "run" else 143)
    assert seconds < 5
    assert client.exists(keys.lease) == 0


def test_a_hung_redis_delays_no_signal(status_dir: Path) -> None:
    with running_server("valkey-9") as server:
        assert server.pid is not None
        args = ("--url", server.url, "--status-dir", str(status_dir), "--poll-interval", "0.2")
        with started(REFRESHER, "run", *args) as process:
            read_until(process.stderr, "first scan")
            os.kill(server.pid, signal.SIGSTOP)
            time.sleep(0.5)
            code, seconds, _ = stop(process, signal.SIGTERM)
            assert seconds < 5
            assert code in {0, -signal.SIGALRM}
            began = time.monotonic()
            assert_one_line(run(REFRESHER, "check", *args), "jobcache-refresher", code=3)
            assert time.monotonic() - began < 5
            os.kill(server.pid, signal.SIGCONT)


def test_a_standby_passes_its_check_and_takes_over(target: tuple[str, ...]) -> None:
    with started(REFRESHER, "run", *target) as leader:
        read_until(leader.stderr, "first scan")
        with started(REFRESHER, "run", *target) as standby:
            read_until(standby.stderr, "standing by")
            assert run(REFRESHER, "check", *target).returncode == 0
            assert stop(leader, signal.SIGTERM)[0] == 0
            read_until(standby.stderr, "leading as")
            assert stop(standby, signal.SIGTERM)[0] == 0


def test_a_first_scan_draws_a_bar_on_a_terminal(target: tuple[str, ...], status_dir: Path) -> None:
    for number in range(40):
        write_run(status_dir, ("p", "g", "n", f"r{number}"))
    slowly = (*target, "--scan-threads", "1")
    code, shown = run_on_terminal(READS_SLOWLY, "once", *slowly)
    assert code == 0
    assert re.search(r"scan .*\d+/41", shown)
    assert "━" in shown
    assert "━" not in shown.splitlines()[-2]
    assert "INFO    scan: 41 jobs in" in shown.splitlines()[-2]
    assert shown.endswith("41 jobs\n")
    assert "\x1b[?25h" in shown  # the cursor is back


# check


def test_check_judges_the_age_of_the_data(
    target: tuple[str, ...], meta: tuple[Redis, Keys]
) -> None:
    client, keys = meta
    target = (*target, "--poll-interval", "5")  # so that programs may take a while to start
    absent = run(REFRESHER, "check", *target)
    assert_one_line(absent, "jobcache-refresher", "no refresher has written", code=4)
    assert run(REFRESHER, "once", *target).returncode == 0
    fine = run(REFRESHER, "check", *target)
    assert re.fullmatch(r"ready, the last scan completed \d s ago\n", fine.stdout)

    client.hset(keys.meta, "state", "degraded")
    client.hset(keys.meta, "reason", "a disk is on fire")
    document = json.loads(run(REFRESHER, "check", "--json", *target).stdout)
    assert (document["ok"], document["state"]) == (True, "degraded")
    assert document["age"] < document["age_limit"]

    client.hset(keys.meta, "completed_at", str(time.time() - 1000))
    old = run(REFRESHER, "check", *target)
    parts = ("completed 100", "a disk is on fire", "limit is 15 s")
    assert_one_line(old, "jobcache-refresher", *parts, code=1)
    slow = run(REFRESHER, "check", *target, "--poll-interval", "600", "--json")
    assert json.loads(slow.stdout)["ok"] is True
    document = json.loads(run(REFRESHER, "check", *target, "--json").stdout)
    assert (document["ok"], "completed" in document["error"]) == (False, True)


# release


def test_release_applies_what_is_held(
    target: tuple[str, ...], status_dir: Path, valkey: RunningServer, namespace: str
) -> None:
    ours = target[:4]
    for number in range(15):
        write_run(status_dir, ("q", "g", "n", f"r{number}"))
    absent = run(REFRESHER, "release", *ours)
    assert_one_line(absent, "jobcache-refresher", "no refresher", code=4)
    refresher = Refresher(
        status_dir,
        poll_interval=0.1,
        url=valkey.url,
        namespace=namespace,
        relist_interval=0.1,
        hold_minimum=5,
    )
    with (
        refresher,
        JobCache(valkey.url, namespace=namespace) as cache,
    ):
        assert run(REFRESHER, "release", *ours).stdout == "no deletion is held\n"
        (status_dir / "q").rename(status_dir.parent / "q")
        wait_for(lambda: cache.meta()["held"] == "15")
        assert cache.counts().total_jobs == 16
        asked = run(REFRESHER, "release", *ours)
        assert asked.stdout == "asked to apply 15 deletions that are held\n"
        wait_for(lambda: cache.counts().total_jobs == 1)


def test_release_takes_volumes_as_they_are(
    target: tuple[str, ...],
    status_dir: Path,
    valkey: RunningServer,
    namespace: str,
    volumes: Volumes,
) -> None:
    ours = target[:4]
    volumes.mount(volumes.make(), status_dir / "vol")
    write_run(status_dir, ("vol", "g", "n", "r"))
    refresher = Refresher(status_dir, poll_interval=0.1, url=valkey.url, namespace=namespace)
    with refresher, JobCache(valkey.url, namespace=namespace) as cache:
        assert cache.counts().total_jobs == 2
        volumes.unmount(status_dir / "vol")
        wait_for(lambda: "'vol' is not mounted" in (cache.freshness().reason or ""))
        asked = run(REFRESHER, "release", *ours)
        assert asked.stdout == "asked to take 'vol' as it is, though it is not mounted\n"
        wait_for(lambda: cache.counts().total_jobs == 1)
        wait_for(lambda: cache.freshness().state is CacheState.READY)
        assert run(REFRESHER, "release", *ours).stdout == "no deletion is held\n"


# up


@pytest.fixture
def private_tmp() -> Iterator[Path]:
    """A directory for temporary files, short enough for a socket's path."""
    directory = tempfile.mkdtemp(prefix="jc-", dir="/tmp")
    yield Path(directory)
    shutil.rmtree(directory)


def server_pid(url: str) -> int:
    with Redis.from_url(url, protocol=2) as client:
        return int(client.info("server")["process_id"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_up_serves_and_leaves_nothing(
    status_dir: Path, private_tmp: Path, number: signal.Signals
) -> None:
    write_run(status_dir, ("p", "g", "n", "r"))
    env = {"TMPDIR": str(private_tmp), "JOBCACHE_REDIS_URL": NOWHERE}
    with started(REFRESHER, "up", "--status-dir", str(status_dir), env=env) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        hints = read_until(process.stderr, "first scan: 1 jobs")
        assert f"jobcache --url {url} ls" in hints
        assert run(JOBCACHE, "--url", url, "get", "p/g/n/r").returncode == 0
        pid = server_pid(url)
        code, seconds, rest = stop(process, number)
    assert code == (-number if number == signal.SIGKILL else 0)
    assert seconds < 5
    assert "Traceback" not in rest
    wait_for(lambda: not is_alive(pid), timeout=5)
    wait_for(lambda: not any(private_tmp.iterdir()), timeout=5)


def test_up_serves_on_a_port_that_is_free(status_dir: Path, private_tmp: Path) -> None:
    env = {"TMPDIR": str(private_tmp)}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        args = ("up", "--status-dir", str(status_dir), "--port", str(port))
        result = run(REFRESHER, *args, env=env)
        assert_one_line(result, "jobcache-refresher", f"--port={port}", "in use", code=2)
    assert not any(private_tmp.iterdir())
    with started(REFRESHER, *args, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"redis://127.0.0.1:{port}/0\n"
        assert server_pid(f"redis://127.0.0.1:{port}/0") > 0
        assert stop(process, signal.SIGTERM)[0] == 0
    assert not any(private_tmp.iterdir())


def test_up_leaves_nothing_when_it_cannot_start(private_tmp: Path) -> None:
    env = {"TMPDIR": str(private_tmp)}
    for args in (["--status-dir", "/nowhere"], ["--status-dir", "/", "--mode", "fast"]):
        assert run(REFRESHER, "up", *args, env=env).returncode == 2
    assert not any(private_tmp.iterdir())
