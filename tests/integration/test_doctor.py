"""``jobcache doctor``, and what ``jobcache info`` tells of repairs."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from jobcache.cli import doctor
from jobcache.cli.checkup import Checkup
from jobcache.schema.keys import Keys
from jobcache_refresher import Refresher
from tests.harness import Rig
from tests.programs import JOBCACHE, run, run_on_terminal
from tests.servers import RunningServer, running_server
from tests.trees import write_run


def test_doctor_of_a_healthy_cache_finds_nothing(valkey_rig: Rig) -> None:
    write_run(valkey_rig.status_dir, ("p", "g", "n", "r"))
    valkey_rig.refresh()
    target = ("--url", valkey_rig.url, "--namespace", valkey_rig.namespace)
    result = run(JOBCACHE, "doctor", *target)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch(r"1 jobs, \d+ other keys: nothing is wrong\n", result.stdout)
    document = json.loads(run(JOBCACHE, "doctor", *target, "--json").stdout)
    assert (document["healthy"], document["jobs"], document["findings"]) == (True, 1, [])


def test_doctor_tells_findings_and_that_no_refresher_leads(
    valkey_rig: Rig, valkey: RunningServer
) -> None:
    write_run(valkey_rig.status_dir, ("p", "g", "n\x1b[2J", "r"))
    valkey_rig.refresh()
    target = ("--url", valkey_rig.url, "--namespace", valkey_rig.namespace)
    with valkey.client() as redis:
        redis.delete(Keys(valkey_rig.namespace).full(b"status:running"))
    result = run(JOBCACHE, "doctor", *target)
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.splitlines()[:2] == [
        "1 x job that an index lacks",
        r"  status:running: p/g/n\x1b[2J/r",
    ]
    waited = run(JOBCACHE, "doctor", *target, "--repair", "--timeout", "0.1")
    assert waited.returncode == 3
    assert re.search(r"no refresher audited .* within 0\.1 s", waited.stderr)


def test_doctor_gives_each_step_the_whole_deadline(valkey_rig: Rig) -> None:
    for number in range(200):
        write_run(valkey_rig.status_dir, ("p", "g", "n", f"r{number}"))
    valkey_rig.refresh()
    steps: list[Any] = []

    def wait(command: Any, reply: Any) -> None:
        steps.append(command)
        time.sleep(0.1)

    with Checkup(
        valkey_rig.url, namespace=valkey_rig.namespace, deadline=1.0, on_exchange=wait
    ) as checkup:
        report = checkup.examine()
    assert len(steps) > 15, "more than a deadline in all"
    assert (report.jobs, report.findings.total(), report.notes) == (200, 0, [])


def test_doctor_tells_a_terminal_how_far_it_is(valkey_rig: Rig) -> None:
    write_run(valkey_rig.status_dir, ("p", "g", "n", "r"))
    valkey_rig.refresh()
    target = ("--url", valkey_rig.url, "--namespace", valkey_rig.namespace)
    code, shown = run_on_terminal(JOBCACHE, "doctor", *target)
    assert code == 0
    assert "examining" in shown
    assert "1 jobs, " in shown.splitlines()[-1]


def test_doctor_after_many_findings_looks_at_no_job_more_closely(
    valkey_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        write_run(valkey_rig.status_dir, ("p", "g", "n", f"r{number}"))
    valkey_rig.refresh()
    monkeypatch.setattr(doctor, "MOST", 2)
    with Checkup(valkey_rig.url, namespace=valkey_rig.namespace) as checkup:
        valkey_rig.refresher.server.ask(b"DEL", valkey_rig.refresher.keys.full(b"status:running"))
        report = checkup.examine()
    assert report.notes == ["after 2 findings no job is looked at more closely"]


def test_doctor_of_an_absent_cache_says_so(valkey: RunningServer, namespace: str) -> None:
    result = run(JOBCACHE, "doctor", "--url", valkey.url, "--namespace", namespace)
    assert result.returncode == 4


def test_doctor_repair_has_the_refresher_repair(
    valkey: RunningServer, status_dir: Path, namespace: str
) -> None:
    for number in range(5):
        write_run(status_dir, ("p", "g", "n", f"r{number}"))
    target = ("--url", valkey.url, "--namespace", namespace)
    keys = Keys(namespace)
    with Refresher(status_dir, url=valkey.url, namespace=namespace, poll_interval=60):
        with valkey.client() as redis:
            redis.delete(keys.jobs, keys.full(b"job:p/g/n/r1"))
            redis.set(keys.full(b"foreign"), "x")
        assert run(JOBCACHE, "doctor", *target).returncode == 1
        result = run(JOBCACHE, "doctor", *target, "--repair", "--json")
        document = json.loads(result.stdout)
        assert (result.returncode, document["healthy"]) == (0, True)
        assert document["before"]["findings"]
        assert int(document["audit"]["audit_findings"]) >= 5
        assert document["audit"]["repaired"].startswith("repaired: ")
        shown = run(JOBCACHE, "doctor", *target, "--repair").stdout
        assert re.match(r"before: 0 findings\naudit: 0 findings\nlast repair: repaired: ", shown)
        assert re.search(r"\nlast repair +repaired: ", run(JOBCACHE, "info", *target).stdout)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru"])
def test_info_warns_of_the_policy(status_dir: Path, policy: str) -> None:
    write_run(status_dir, ("p", "g", "n", "r"))
    options = ("--maxmemory-policy", policy)
    with (
        running_server("valkey-9", *options) as server,
        Refresher(status_dir, url=server.url),
    ):
        shown = run(JOBCACHE, "info", "--url", server.url).stdout
        document = json.loads(run(JOBCACHE, "info", "--url", server.url, "--json").stdout)
    warned = "warning" in shown and "maxmemory-policy is allkeys-lru" in shown
    assert warned == (policy == "allkeys-lru")
    assert bool(document["policy_warning"]) == warned
