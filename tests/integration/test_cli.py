"""``jobcache``, as a shell runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from jobcache.schema.keys import SCHEMA_VERSION, Keys
from jobcache_refresher import Refresher
from tests.harness import Rig
from tests.programs import (
    JOBCACHE,
    Result,
    assert_one_line,
    environment,
    run,
    run_on_terminal,
    started,
    wait_for,
)
from tests.servers import RunningServer
from tests.trees import Names, delete_run, write_run

LONG: Names = (
    "speech_recognition",
    "sweep_00",
    "3b-ssm_lora_linear_cosine",
    "20260204_094435_1234567",
)
URL = "https://wandb.ai/example-lab/speech/runs/7eee5b83"
WANDB_LINE = f"WANDB | project=speech run_id=7eee5b83 url={URL}\n"


@pytest.fixture
def filled(valkey_rig: Rig) -> Rig:
    """Four jobs: a long-named one with a log, one that is stale, one that failed, and one from yesterday."""
    root, now = valkey_rig.status_dir, datetime.now()
    old = (now - timedelta(days=2)).isoformat()
    write_run(root, LONG, WANDB_LINE, start_time=now.isoformat())
    write_run(root, ("p", "g", "n", "stale"), last_heartbeat=old, start_time=old)
    write_run(root, ("p", "g", "n", "failed"), status="failed")
    write_run(root, ("p", "default", "n", "done"), status="completed", start_time=old)
    valkey_rig.refresh()
    return valkey_rig


def jobcache(rig: Rig, *args: str | bytes) -> Result:
    return run(JOBCACHE, "--url", rig.url, "--namespace", rig.namespace, *args)


def answer(rig: Rig, *args: str | bytes) -> Any:
    result = jobcache(rig, *args, "--json")
    assert result.returncode == 0, result
    assert result.stderr == ""
    assert result.stdout.endswith("\n")
    return json.loads(result.stdout, parse_constant=pytest.fail)


def run_ids(rig: Rig, *args: str) -> list[str]:
    return [job["run_id"] for job in answer(rig, "ls", *args)["jobs"]]


# info


def test_info_tells_what_the_cache_holds(filled: Rig) -> None:
    document = answer(filled, "info")
    assert document["state"] == "ready"
    assert document["schema"] == SCHEMA_VERSION
    assert document["projects"] == 2
    assert document["status_dir"] == str(filled.status_dir)
    assert document["mode"] == "polling"
    assert document["refresher"] == "test:1:0"
    assert document["generation"] > 0
    assert document["age"] < 30
    assert document["counts"] == {
        "total_jobs": 4,
        "running": 1,
        "stale": 1,
        "completed": 1,
        "failed": 1,
        "preempted": 0,
        "unknown": 0,
        "active_chips": 8,
        "problems": 0,
    }
    shown = jobcache(filled, "info").stdout
    assert re.search(r"^state +ready$", shown, re.MULTILINE)
    assert re.search(r"^jobs +4 in 2 projects$", shown, re.MULTILINE)
    assert re.search(r"^by status +1 running, 1 stale, 1 completed, 1 failed$", shown, re.MULTILINE)


def test_info_of_an_absent_cache(valkey: RunningServer, namespace: str) -> None:
    result = run(JOBCACHE, "info", "--url", valkey.url, "--namespace", namespace, "--json")
    document = json.loads(result.stdout)
    assert (result.returncode, result.stderr) == (4, "")
    assert (document["state"], document["counts"], document["age"]) == ("absent", None, None)


def test_info_shows_the_progress_of_the_first_scan(valkey: RunningServer, namespace: str) -> None:
    fields = {
        "state": "building",
        "schema": SCHEMA_VERSION,
        "epoch": "1.0",
        "scanned": 5,
        "total": 10,
    }
    with valkey.client() as client:
        client.hset(Keys(namespace).meta, mapping=fields)
    args = ("--url", valkey.url, "--namespace", namespace, "info")
    result = run(JOBCACHE, *args)
    assert result.returncode == 4
    assert re.search(r"^scanning +5 of 10 runs$", result.stdout, re.MULTILINE)
    document = json.loads(run(JOBCACHE, *args, "--json").stdout)
    assert (document["state"], document["scanned"], document["total"]) == ("building", 5, 10)


# ls


def test_ls_filters_and_orders(filled: Rig) -> None:
    assert run_ids(filled) == [LONG[3], "failed", "stale", "done"]
    assert run_ids(filled, "--limit", "1") == [LONG[3]]
    assert run_ids(filled, "--project", "p", "--group", "default") == ["done"]
    assert run_ids(filled, "--status", "failed") == ["failed"]
    assert run_ids(filled, "--running") == [LONG[3]]
    assert run_ids(filled, "--running", "--project", "p") == []
    assert run_ids(filled, "--recent", "24") == [LONG[3], "failed"]
    assert run_ids(
        filled, "--recent", "1000", "--project", "p", "--group", "g", "--limit", "1"
    ) == ["failed"]


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["--status", "failed", "--status", "stale"], {"status": ["failed", "stale"]}),
        (
            ["--status", "live", "--project", "", "--project", "p"],
            {"status": "live", "project": "p"},
        ),
        (["--group", "g", "--group", "default"], {"group": ["g", "default"]}),
        (["--text", "FAIL p"], {"text": "fail p"}),
        (["--order", "activity"], {"order": "activity"}),
        (["--order", "", "--text", "", "--started-after", ""], {}),
        (["--started-after", "24h"], {"started_after": timedelta(hours=24)}),
        (["--started-before", "1d"], {"started_before": timedelta(days=1)}),
        (
            ["--active-after", "10m", "--running"],
            {"active_after": timedelta(minutes=10), "status": "live"},
        ),
        (
            ["--active-before", "2026-02-04T09:44:35Z"],
            {"active_before": datetime(2026, 2, 4, 9, 44, 35, tzinfo=UTC)},
        ),
    ],
)
def test_ls_filters_mean_what_they_mean_in_python(
    filled: Rig, args: list[str], wanted: dict[str, Any]
) -> None:
    expected = filled.cache.list_all_jobs(**wanted)
    assert run_ids(filled, *args) == [job.run_id for job in expected]


def test_empty_text_is_no_filter(filled: Rig) -> None:
    everything = run_ids(filled)
    assert run_ids(filled, "--project", "", "--group", "", "--status", "") == everything
    assert run_ids(filled, "--project", "p", "--group", "", "--status", "") == everything[1:]
    assert run_ids(filled, "--running", "--status", "", "--project", "") == [LONG[3]]
    assert run_ids(filled, "--recent", "24", "--project", "") == [LONG[3], "failed"]
    refused = jobcache(filled, "ls", "--status", "lost")
    assert_one_line(refused, "jobcache", "lost", code=2)


def test_ls_goes_by_pages(valkey_rig: Rig) -> None:
    start = datetime(2026, 1, 1)
    for number in range(410):
        name = "long name" if number == 0 else "n"
        names = ("p", "g", name, f"r{number:03}")
        status = "running" if number % 3 else "failed"
        old = (start + timedelta(seconds=number)).isoformat()
        write_run(valkey_rig.status_dir, names, status=status, start_time=old)
    valkey_rig.refresh()
    ids = [f"r{number:03}" for number in reversed(range(410))]
    running = [name for name in ids if int(name[1:]) % 3]
    assert run_ids(valkey_rig, "--all") == ids
    assert run_ids(valkey_rig, "--limit", "300") == ids[:300]
    assert run_ids(valkey_rig, "--all", "--running") == running
    assert run_ids(valkey_rig, "--running", "--limit", "201") == running[:201]
    assert run_ids(valkey_rig, "--limit", "0") == []
    heading, *lines = jobcache(valkey_rig, "ls", "--all").stdout.splitlines()
    assert heading.startswith("ID ")
    assert len(lines) == 410
    assert [line.split()[0][-4:] for line in lines if " running " in line] == running
    completed_at = valkey_rig.cache.freshness().completed_at
    assert completed_at is not None
    hours = (completed_at.timestamp() - start.timestamp() - 204.5) / 3600
    assert run_ids(valkey_rig, "--all", "--recent", str(hours)) == ids[:205]
    assert run_ids(valkey_rig, "--all", "--recent", str(hours), "--running") == [
        name for name in ids[:205] if name in running
    ]
    listed = valkey_rig.cache.get_recent_jobs(hours, limit=None)
    assert [job.run_id for job in listed] == ids[:205]


def test_ls_holds_no_more_than_a_page(valkey_rig: Rig) -> None:
    """Of 60 MB of configs."""
    for number in range(1200):
        config = {"text": f"{number} " + "x" * 50_000}
        write_run(valkey_rig.status_dir, ("p", "g", "n", f"r{number}"), config=config)
    valkey_rig.refresh()
    for form in ((), ("--json",)):
        one = peak(valkey_rig, *form, "--limit", "1")
        assert peak(valkey_rig, *form, "--all") - one < 50_000, form


MEASURED = """
from jobcache.cli import main
try:
    main()
finally:
    import sys
    with open("/proc/self/status") as status:
        sys.stderr.write(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
"""


def peak(rig: Rig, *args: str) -> int:
    """Kilobytes of memory that ``ls`` takes at most."""
    target = ("--url", rig.url, "--namespace", rig.namespace)
    result = run((sys.executable, "-c", MEASURED), *target, "ls", *args)
    assert result.returncode == 0
    return int(result.stderr)


def test_ls_lists_twenty_unless_told_otherwise(valkey_rig: Rig) -> None:
    for number in range(25):
        write_run(valkey_rig.status_dir, ("p", "g", "n", f"r{number}"))
    valkey_rig.refresh()
    assert len(run_ids(valkey_rig)) == 20
    assert len(run_ids(valkey_rig, "--all")) == 25
    assert jobcache(valkey_rig, "ls", "--all").stdout.count("\n") == 26
    _, shown = run_on_terminal(
        JOBCACHE, "--url", valkey_rig.url, "--namespace", valkey_rig.namespace, "ls"
    )
    assert shown.splitlines()[-1] == "and 5 more: --limit, --all"


def test_json_is_accepted_before_and_after_the_command(filled: Rig) -> None:
    before = run(JOBCACHE, "--json", "--url", filled.url, "--namespace", filled.namespace, "ls")
    after = run(JOBCACHE, "ls", "--url", filled.url, "--namespace", filled.namespace, "--json")
    jobs = [json.loads(result.stdout)["jobs"] for result in (before, after)]
    for job in (*jobs[0], *jobs[1]):
        del job["duration"]  # of a running job it grows
    assert jobs[0] == jobs[1]


def test_settings_come_from_the_environment(filled: Rig) -> None:
    for variable in ("JOBCACHE_REDIS_URL", "REDIS_URL"):
        env = {variable: filled.url, "JOBCACHE_NAMESPACE": filled.namespace}
        assert run(JOBCACHE, "ls", env=env).stdout.count("\n") == 5


def test_a_pipe_gets_one_whole_line_a_job(filled: Rig) -> None:
    lines = jobcache(filled, "ls").stdout.splitlines()
    assert lines[0].split() == ["ID", "STATUS", "START", "DURATION", "CHIPS", "W&B"]
    assert lines[1].split()[0] == "/".join(LONG)
    assert lines[1].split()[1] == "running"
    assert lines[1].endswith(URL)
    assert sum(" stale " in line for line in lines) == 1
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_a_terminal_gets_a_table_that_fits(filled: Rig, columns: int) -> None:
    code, raw = run_on_terminal(
        JOBCACHE, "--url", filled.url, "--namespace", filled.namespace, "ls", columns=columns
    )
    assert code == 0
    assert "\x1b[" in raw
    assert "\x1b]8;id" in raw
    lines = plain(raw).splitlines()
    assert "/".join(LONG) in plain(raw)
    assert {line for line in lines if len(line) > columns} <= {"/".join(LONG)}
    a_line_each = len(lines) == 5
    assert a_line_each == (columns >= 140)
    assert all(word in plain(raw) for word in ("STATUS", "stale", "failed", "CHIPS", "7eee5b83"))


def plain(text: str) -> str:
    """The text without its escape sequences."""
    return re.sub(r"\x1b\[[0-9;]*m|\x1b\]8;[^\x1b]*\x1b\\", "", text)


def test_no_name_reaches_the_terminal_raw(valkey_rig: Rig) -> None:
    hostile = ("p\x1b[2J", "g\nroot", "n\u202e[red]", "r\udcff")
    write_run(valkey_rig.status_dir, hostile, config={"x\x1b[2J\u202e": "\x9b2J"}, job_key="\x07")
    valkey_rig.refresh()
    shown = r"p\x1b[2J/g\nroot/n\u202e[red]/r\xff"
    target = ("--url", valkey_rig.url, "--namespace", valkey_rig.namespace)
    raw = os.fsencode("/".join(hostile))
    for command in (["ls"], ["get", raw]):
        for output in (
            run(JOBCACHE, *target, *command).stdout,
            plain(run_on_terminal(JOBCACHE, *target, *command, columns=140)[1]),
        ):
            assert shown in output
            assert not set("\x1b\x07\x9b\u202e\udcff") & set(output)
    told = answer(valkey_rig, "get", raw)
    assert told["run_id"] == "r\uefff"
    assert answer(valkey_rig, "get", told["id"])["run_id"] == "r\uefff"
    assert answer(valkey_rig, "ls")["jobs"][0]["group"] == "g\nroot"
    absent = jobcache(valkey_rig, "get", "a/b/c/\x1b[2J")
    assert absent.stderr == "jobcache: no such job: a/b/c/\\x1b[2J\n"


# get, delete, invalidate, refresh


def test_get_takes_a_path_or_four_names(filled: Rig) -> None:
    job = answer(filled, "get", "/".join(LONG))
    assert job == answer(filled, "get", *LONG) | {"duration": job["duration"]}
    assert (job["id"], job["is_stale"], job["wandb_url"]) == ("/".join(LONG), False, URL)
    shown = jobcache(filled, "get", *LONG).stdout
    assert shown.startswith("/".join(LONG) + "\n")
    assert re.search(r"^hosts +node000, node001$", shown, re.MULTILINE)
    assert '    "lr": 0.0003' in shown
    assert "written as" not in shown
    assert "extra" not in shown


def test_get_shows_the_word_for_a_status_and_further_fields(valkey_rig: Rig) -> None:
    write_run(valkey_rig.status_dir, LONG, status="OUT_OF_MEMORY", gpu_count=4, tag="a\x1b[2J")
    valkey_rig.refresh()
    job = answer(valkey_rig, "get", *LONG)
    assert (job["status"], job["status_text"]) == ("failed", "OUT_OF_MEMORY")
    assert job["extra"] == {"gpu_count": 4, "tag": "a\x1b[2J"}
    shown = jobcache(valkey_rig, "get", *LONG).stdout
    assert re.search(r"^status +failed$", shown, re.MULTILINE)
    assert re.search(r"^written as +OUT_OF_MEMORY$", shown, re.MULTILINE)
    assert '\nextra\n  {\n    "gpu_count": 4,\n' in shown
    assert "\x1b" not in shown


def test_info_says_how_many_runs_wait_to_be_read_anew(filled: Rig) -> None:
    assert answer(filled, "info")["reread"] == 0
    assert "reading anew" not in jobcache(filled, "info").stdout
    filled.refresher.time.advance(30)
    filled.settle()  # no file is racy any more
    filled.refresher.scanner.snapshot.outdated.update(filled.refresher.records)
    filled.refresh()
    assert answer(filled, "info")["reread"] == 4
    shown = jobcache(filled, "info").stdout
    assert re.search(r"^reading anew +4 runs wait for it$", shown, re.MULTILINE)


def test_json_is_strict_where_the_producer_is_not(valkey_rig: Rig) -> None:
    write_run(
        valkey_rig.status_dir, LONG, config={"nan": float("nan"), "big": 2**70, "s": "\ud800"}
    )
    valkey_rig.refresh()
    config = answer(valkey_rig, "get", *LONG)["config"]
    assert config == {"nan": None, "big": 2**70, "s": "\\ud800"}


def test_an_absent_job_is_not_found(filled: Rig) -> None:
    with filled.answering():
        for command in (["get"], ["get", "--json"], ["delete"]):
            result = jobcache(filled, *command, "a/b/c/d")
            assert_one_line(result, "jobcache", "no such job: a/b/c/d", code=1)


def test_delete_drops_a_job(filled: Rig) -> None:
    delete_run(filled.status_dir, LONG)
    with filled.answering():
        assert answer(filled, "delete", "/".join(LONG)) == {"id": "/".join(LONG), "deleted": True}
        assert LONG[3] not in run_ids(filled)
        assert jobcache(filled, "delete", "p/g/n/failed").stdout == "deleted p/g/n/failed\n"


def test_invalidate_and_refresh_reach_the_refresher(
    valkey: RunningServer, status_dir: Path, namespace: str
) -> None:
    write_run(status_dir, LONG)
    target = ("--url", valkey.url, "--namespace", namespace)
    with Refresher(
        status_dir, poll_interval=3600, relist_interval=3600, url=valkey.url, namespace=namespace
    ):
        write_run(status_dir, ("p", "g", "n", "new"))
        assert run(JOBCACHE, *target, "invalidate", "p/g/n/new").returncode == 0
        wait_for(lambda: run(JOBCACHE, *target, "get", "p/g/n/new").returncode == 0)
        write_run(status_dir, ("p", "g", "n", "newer"))
        result = run(JOBCACHE, *target, "refresh", "--wait", "--json")
        assert json.loads(result.stdout)["state"] == "ready"
        assert run(JOBCACHE, *target, "get", "p/g/n/newer").returncode == 0


# What goes wrong


@pytest.mark.parametrize(
    ("args", "parts", "code"),
    [
        (["ls"], ["no Redis URL", "JOBCACHE_REDIS_URL"], 2),
        (["ls", "--url", "http://u:secret@h"], ["url=http://u:***@h"], 2),
        (["ls", "--url", "u:secret@h:6379"], ["url=u:***@h:6379"], 2),
        (["ls", "--url", "redis://:se/secret@h"], ["url=redis://:***@h"], 2),
        (["ls", "--url", "redis://h:99999?password=secret"], ["url=redis://h:99999", "port"], 2),
        (["info", "--url", "redis://:secret@127.0.0.1:1"], ["127.0.0.1:1", "refused"], 3),
        (["ls", "--url", "unix:///nowhere/at/all.sock"], ["/nowhere/at/all.sock"], 3),
        (["--namespace", "a b", "info"], ["--namespace='a b'"], 2),
        (["info", "--namespace", "\x1b[2J\n"], ["--namespace='\\x1b[2J\\n'"], 2),
        (["ls", "--limit", "-1"], ["'--limit'", "-1"], 2),
        (["ls", "--status", "bogus"], ["'--status'", "'bogus'"], 2),
        (["ls", "--recent", "nan"], ["'--recent'", "nan"], 2),
        (["ls", "--running", "--status", "failed"], ["--running", "failed"], 2),
        (["ls", "--recent", "1", "--started-after", "1h"], ["--recent", "--started-after"], 2),
        (["ls", "--started-after", "2026-02-04"], ["--started-after", "2026-02-04", "30m"], 2),
        (["ls", "--text", "x" * 1001], ["text", "1000"], 2),
        (["ls", "--order", "name"], ["'--order'", "'name'"], 2),
        (["get", "a/b"], ["JOB='a/b'"], 2),
        (["get", "a", "b", "c", "d/e"], ["JOB='a/b/c/d/e'"], 2),
        (["frobnicate"], ["'frobnicate'"], 2),
        (["ls", "--frobnicate"], ["--frobnicate"], 2),
        ([], ["Missing command", "jobcache --help"], 2),
    ],
)
def test_bad_input_is_one_line(args: list[str], parts: list[str], code: int) -> None:
    env = {} if args == ["ls"] else {"JOBCACHE_REDIS_URL": "redis://127.0.0.1:1"}
    assert_one_line(run(JOBCACHE, *args, env=env), "jobcache", *parts, code=code)


def test_a_bad_variable_is_named() -> None:
    for variable in ("JOBCACHE_REDIS_URL", "REDIS_URL"):
        result = run(JOBCACHE, "ls", env={variable: "ftp://u:secret@h"})
        assert_one_line(result, "jobcache", f"{variable}=ftp://u:***@h", code=2)
    env = {"JOBCACHE_REDIS_URL": "redis://127.0.0.1:1", "JOBCACHE_NAMESPACE": "a/b"}
    assert_one_line(run(JOBCACHE, "ls", env=env), "jobcache", "JOBCACHE_NAMESPACE='a/b'", code=2)


def test_an_absent_cache_is_not_an_empty_one(valkey: RunningServer, namespace: str) -> None:
    for args in (["ls"], ["ls", "--json"], ["get", "a/b/c/d"], ["delete", "a/b/c/d"]):
        result = run(JOBCACHE, "--url", valkey.url, "--namespace", namespace, *args)
        assert_one_line(result, "jobcache", namespace, "no refresher", code=4)


def test_a_schema_from_the_future_is_refused(filled: Rig) -> None:
    with Redis.from_url(filled.url) as client:
        client.hset(Keys(filled.namespace).meta, "schema", 99)
        client.hset(Keys(filled.namespace).meta, "state", "a state of the future")
    for args in (["info"], ["ls"], ["get", *LONG], ["info", "--json"]):
        assert_one_line(jobcache(filled, *args), "jobcache", "schema version 99", code=5)


def test_a_closed_pipe_is_no_error(filled: Rig) -> None:
    for args in (["ls"], ["ls", "--json"], ["get", *LONG], ["--help"]):
        command = [*JOBCACHE, "--url", filled.url, "--namespace", filled.namespace, *args]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""


def test_ctrl_c_is_quiet(valkey: RunningServer, namespace: str) -> None:
    target = ("--url", valkey.url, "--namespace", namespace)
    with started(JOBCACHE, *target, "refresh", "--wait") as process, valkey.client() as client:
        wait_for(lambda: bool(client.exists(Keys(namespace).requests)))
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=5)
    assert process.returncode == 130
    assert complaint.strip() == ""


@pytest.mark.parametrize("library", ["click", "rich"])
def test_a_base_install_says_what_to_install(library: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; from jobcache.cli import main; main()"
    result = run([sys.executable, "-c", code], "info")
    assert_one_line(result, "jobcache", library, "with the extra 'cli'", code=2)


def test_help_documents_the_exit_codes() -> None:
    result = run(JOBCACHE, "--help")
    assert result.returncode == 0
    for code in range(6):
        assert re.search(rf"^ +{code}  \w", result.stdout, re.MULTILINE)
