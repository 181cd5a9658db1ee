"""Why a run is missing: a refresher that lives, what it logs, and what ``jobcache`` and the JSON API say."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx
import pytest

from jobcache import AsyncJobCache, JobCache
from jobcache.web import JobApi
from jobcache_refresher import Refresher
from tests.harness import Rig
from tests.programs import JOBCACHE, Result, assert_one_line, run, run_on_terminal, wait_for
from tests.servers import RunningServer
from tests.tools import free_port
from tests.trees import Names, metadata, run_dir, write_raw, write_run

GOOD: Names = ("p", "g", "n", "good")
TOO_LARGE = 5_000
"""Bytes of a ``metadata.json`` that is not read."""


def no_json(directory: Path) -> None:
    write_raw(directory, b"no JSON")


def empty(directory: Path) -> None:
    write_raw(directory, b"")


def too_large(directory: Path) -> None:
    write_raw(directory, json.dumps(metadata(config={"x": TOO_LARGE * "y"})).encode())


def a_fifo(directory: Path) -> None:
    directory.mkdir(parents=True)
    os.mkfifo(directory / "metadata.json")


def a_link(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "metadata.json").symlink_to("/etc/hostname")


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (empty, "metadata.json is no job: empty"),
    "fifo": (a_fifo, "not a regular file"),
    "large": (too_large, "bytes, more than 5000"),
    "link": (a_link, "a symbolic link"),
    "no-json": (no_json, "metadata.json is no job: "),
}
"""Run ids, each with how its file is spoilt, and what is said of it."""


def path_of(run_id: str) -> str:
    return f"p/g/n/{run_id}"


@contextmanager
def refreshing(
    server: RunningServer, status_dir: Path, namespace: str, **settings: Any
) -> Iterator[JobCache]:
    with (
        Refresher(
            status_dir,
            url=server.url,
            namespace=namespace,
            **{"poll_interval": 0.2, "max_metadata_bytes": TOO_LARGE, "settle": 0.2, **settings},
        ),
        JobCache(server.url, namespace=namespace) as cache,
    ):
        yield cache


def polls(cache: JobCache, count: int) -> None:
    """Wait for so many more completed scans."""
    for _ in range(count):
        before = cache.freshness().completed_at
        wait_for(lambda before=before: cache.freshness().completed_at != before)  # type: ignore[misc]


def lines(log: pytest.LogCaptureFixture, run_id: str) -> list[str]:
    return [message for message in log.messages if path_of(run_id) in message]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


@pytest.fixture
def spoilt_dir(status_dir: Path) -> Path:
    write_run(status_dir, GOOD)
    for run_id, (spoil, _) in KINDS.items():
        spoil(run_dir(status_dir, ("p", "g", "n", run_id)))
    return status_dir


def test_each_problem_is_told_and_logged_once(
    valkey: RunningServer, spoilt_dir: Path, namespace: str, log: pytest.LogCaptureFixture
) -> None:
    with refreshing(valkey, spoilt_dir, namespace) as cache:
        wait_for(lambda: cache.counts().problems == len(KINDS))
        polls(cache, 5)
        found = {problem.path: problem for problem in cache.problems()}
        for run_id, (_, reason) in KINDS.items():
            assert reason in found[path_of(run_id)].reason
            assert len(lines(log, run_id)) == 1, lines(log, run_id)
        assert [len(cache.problems(path_of(run_id))) for run_id in ("good", "link")] == [0, 1]


def test_a_problem_ends_when_it_is_mended_and_that_is_logged_once(
    valkey: RunningServer, spoilt_dir: Path, namespace: str, log: pytest.LogCaptureFixture
) -> None:
    with refreshing(valkey, spoilt_dir, namespace) as cache:
        wait_for(lambda: cache.counts().problems == len(KINDS))
        for run_id in KINDS:
            (run_dir(spoilt_dir, ("p", "g", "n", run_id)) / "metadata.json").unlink()
            write_run(spoilt_dir, ("p", "g", "n", run_id))
            cache.invalidate("p", "g", "n", run_id)
        wait_for(lambda: cache.counts().problems == 0)
        polls(cache, 3)
        assert cache.problems() == []
        assert cache.counts().total_jobs == len(KINDS) + 1
        for run_id in KINDS:
            assert lines(log, run_id)[1:] == [f"'{path_of(run_id)}': no problem any more"]


def test_since_survives_a_restart_and_nothing_is_logged_again(
    valkey: RunningServer, spoilt_dir: Path, namespace: str, log: pytest.LogCaptureFixture
) -> None:
    with refreshing(valkey, spoilt_dir, namespace) as cache:
        wait_for(lambda: cache.counts().problems == len(KINDS))
        before = cache.problems()
    log.clear()
    with refreshing(valkey, spoilt_dir, namespace) as cache:
        assert cache.problems() == before
        polls(cache, 3)
        assert cache.problems() == before
    assert not [line for run_id in KINDS for line in lines(log, run_id)]


def test_a_last_good_record_stays_beside_its_problem(
    valkey: RunningServer, status_dir: Path, namespace: str
) -> None:
    write_run(status_dir, GOOD)
    with refreshing(valkey, status_dir, namespace) as cache:
        write_raw(run_dir(status_dir, GOOD), b"{")
        wait_for(lambda: bool(cache.problems("/".join(GOOD))))
        assert cache.get_job(*GOOD) is not None


def test_metrics_count_the_problems(
    valkey: RunningServer, spoilt_dir: Path, namespace: str
) -> None:
    port = free_port()
    with refreshing(valkey, spoilt_dir, namespace, metrics_port=port) as cache:
        wait_for(lambda: cache.counts().problems == len(KINDS))
        with urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
            text = reply.read().decode()
        assert f'jobcache_problems{{namespace="{namespace}"}} {len(KINDS)}.0' in text


# The program


BAD = "p/g/n/bad"
ODD: Names = (os.fsdecode(b"p\xff"), "[red]", "\x1b[2J", "line\nend")
REASON = "cannot be read: not a regular file"


@pytest.fixture
def spoilt(valkey_rig: Rig) -> Rig:
    write_run(valkey_rig.status_dir, GOOD)
    for names in (("p", "g", "n", "bad"), ODD):
        a_fifo(run_dir(valkey_rig.status_dir, names))
    valkey_rig.refresh()
    return valkey_rig


def jobcache(rig: Rig, *args: str) -> Result:
    return run(JOBCACHE, "--url", rig.url, "--namespace", rig.namespace, *args)


def test_the_program_shows_a_line_for_each(spoilt: Rig) -> None:
    result = jobcache(spoilt, "problems")
    assert (result.returncode, result.stderr) == (0, "")
    heading, first, second = result.stdout.splitlines()
    assert heading.split() == ["PATH", "SINCE", "REASON"]
    since = r"\d{4}-\d\d-\d\d \d\d:\d\d"
    assert re.fullmatch(rf"{BAD} +{since}  {REASON}", first)
    assert re.fullmatch(rf"p\\xff/\[red\]/\\x1b\[2J/line\\nend  {since}  {REASON}", second)


def test_the_program_shows_what_concerns_a_path(spoilt: Rig) -> None:
    for prefix in ("p", "p/g/", BAD):
        _, line = jobcache(spoilt, "problems", prefix).stdout.splitlines()
        assert line.startswith(f"{BAD}  ")


def test_the_program_says_that_there_are_none(spoilt: Rig) -> None:
    result = jobcache(spoilt, "problems", "p/g/n/good")
    assert result.returncode == 0
    assert re.fullmatch(r"none, as of \d{4}-\d\d-\d\d \d\d:\d\d\n", result.stdout)


def test_the_program_gives_json(spoilt: Rig) -> None:
    document = json.loads(jobcache(spoilt, "problems", "--json").stdout)
    assert [one["path"] for one in document["problems"]] == [
        BAD,
        "p\uefff/[red]/\x1b[2J/line\nend",
    ]
    assert set(document["problems"][0]) == {"path", "reason", "since"}
    assert document["total"] == 2
    assert document["freshness"]["state"] == "ready"
    assert json.loads(jobcache(spoilt, "problems", "q", "--json").stdout)["problems"] == []


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_terminal_shows_paths_whole_and_nothing_raw(spoilt: Rig, columns: int) -> None:
    code, shown = run_on_terminal(
        JOBCACHE,
        *("--url", spoilt.url, "--namespace", spoilt.namespace, "problems"),
        columns=columns,
    )
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert code == 0
    assert "\x1b" not in plain
    rows = [line.rstrip() for line in plain.splitlines()]
    assert all(len(row) <= max(columns, 60) for row in rows)
    assert any(row.startswith(BAD) for row in rows)
    assert any(row.startswith(r"p\xff/[red]/\x1b[2J/line\nend") for row in rows)
    assert rows[-1].startswith("as of ")


def test_info_shows_how_many(spoilt: Rig) -> None:
    shown = jobcache(spoilt, "info").stdout
    assert re.search(r"^problems +2 \(jobcache problems\)$", shown, re.MULTILINE)
    assert json.loads(jobcache(spoilt, "info", "--json").stdout)["problems"] == 2


def test_get_of_a_run_that_is_not_there_says_why(spoilt: Rig) -> None:
    since = r" \(since \d{4}-\d\d-\d\d \d\d:\d\d\)\n"
    result = jobcache(spoilt, "get", BAD)
    assert_one_line(result, "jobcache", f"no such job: {BAD}: {REASON} (since ", code=1)
    result = jobcache(spoilt, "get", "p", "g", "n", "absent")
    assert result.stderr == "jobcache: no such job: p/g/n/absent\n"
    result = jobcache(spoilt, "get", *ODD)
    shown = r"p\\xff/\[red\]/\\x1b\[2J/line end"
    assert re.fullmatch(rf"jobcache: no such job: {shown}: {REASON}{since}", result.stderr)


def test_get_of_a_run_below_a_problem_names_the_directory(
    spoilt: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = spoilt.refresher.tree.list_directory

    def deny(path: bytes, *rest: Any, **options: Any) -> Any:
        if path == b"q":
            raise PermissionError(13, "Permission denied")
        return listed(path, *rest, **options)

    write_run(spoilt.status_dir, ("q", "g", "n", "r"))
    monkeypatch.setattr(spoilt.refresher.tree, "list_directory", deny)
    spoilt.refresh()
    result = jobcache(spoilt, "get", "q/g/n/r")
    expected = "no such job: q/g/n/r: q: cannot be listed: Permission denied (since "
    assert_one_line(result, "jobcache", expected, code=1)


# The JSON API


def test_the_api_answers(spoilt: Rig) -> None:
    async def ask(*paths: str) -> list[httpx.Response]:
        cache = AsyncJobCache(spoilt.url, namespace=spoilt.namespace)
        transport = httpx.ASGITransport(JobApi(cache))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answers = [await client.get(path) for path in paths]
        await cache.stop()
        return answers

    every, below, byte, one, bad, stats = asyncio.run(
        ask(
            "/api/problems",
            "/api/problems?prefix=p/g",
            "/api/problems?prefix=p%FF",
            "/api/problems?limit=1",
            "/api/problems?limit=x",
            "/api/dashboard/stats",
        )
    )
    body = every.json()
    assert [problem["path"] for problem in body["problems"]] == [
        BAD,
        "p\uefff/[red]/\x1b[2J/line\nend",
    ]
    assert body["problems"][0]["reason"] == REASON
    assert body["problems"][0]["since"].endswith("+00:00")
    assert body["freshness"]["state"] == every.headers["X-Jobcache-State"] == "ready"
    assert [len(reply.json()["problems"]) for reply in (below, byte, one)] == [1, 1, 1]
    assert bad.status_code == 400
    assert stats.json()["problems"] == 2
