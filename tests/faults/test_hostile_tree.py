"""Everything that users of a shared filesystem can put into a tree, beside good jobs that must stay fresh."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobcache import JobStatus
from jobcache_refresher.scan.scope import Scope
from tests.contract.compare import names_of
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import Names, write_raw, write_run

GOOD = 999


def good(number: int) -> Names:
    return (f"p{number % 5}", f"g{number % 20}", f"n{number % 50}", f"r{number}")


def run_with(root: Path, name: str) -> Path:
    directory = root / "hostile" / "g" / "n" / name
    directory.mkdir(parents=True)
    return directory


def plant(root: Path, outside: Path) -> None:
    """Put it all there."""
    outside.mkdir()
    write_run(outside, ("p", "g", "n", "stolen"))
    stolen = outside / "p" / "g" / "n" / "stolen"
    # Links: loops, escapes, at every depth.
    (root / "loop").symlink_to(root)
    (root / "escape").symlink_to(outside)
    (root / "p0" / "escape").symlink_to(outside / "p")
    (root / "p0" / "g0" / "escape").symlink_to(outside / "p" / "g")
    (root / "p0" / "g0" / "n0" / "escape").symlink_to(stolen)
    (run_with(root, "linked file") / "metadata.json").symlink_to(stolen / "metadata.json")
    (run_with(root, "self") / "metadata.json").symlink_to("metadata.json")
    # Files that are none.
    os.mkfifo(run_with(root, "fifo") / "metadata.json")
    listener = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(run_with(root, "socket"))
    listener.bind("metadata.json")
    os.chdir(here)
    listener.close()
    (run_with(root, "directory") / "metadata.json").mkdir()
    if os.geteuid() == 0:
        os.mknod(run_with(root, "zero") / "metadata.json", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.mkfifo(write_run(root, ("hostile", "g", "n", "log fifo")) / "output.log")
    # Content.
    write_raw(run_with(root, "deep"), b'{"config":' + b"[" * 10_000 + b"]" * 10_000 + b"}")
    write_raw(
        run_with(root, "digits"),
        b'{"status":"running","hardware":{"total_chips":' + b"9" * 4000 + b"}}",
    )
    write_raw(run_with(root, "too many digits"), b'{"config":' + b"9" * 9000 + b"}")
    write_raw(
        run_with(root, "nan"),
        b'{"status":"failed","config":{"a":NaN,"b":-Infinity},"start_time":NaN}',
    )
    write_raw(
        run_with(root, "surrogate"),
        b'{"status":"failed","job_key":"\\ud800","config":{"\\udfff":"\\ud800"}}',
    )
    write_raw(
        run_with(root, "types"),
        b'{"status":[],"hardware":"x","config":7,"start_time":{},"last_heartbeat":1}',
    )
    write_raw(run_with(root, "not utf-8"), b'{"status":"\xff\xfe"}')
    with (run_with(root, "large") / "metadata.json").open("wb") as file:
        file.truncate(1 << 30)
    with (write_run(root, ("hostile", "g", "n", "large log")) / "output.log").open("wb") as file:
        file.truncate(50 << 30)
    with (write_run(root, ("hostile", "g", "n", "long line")) / "output.log").open("wb") as file:
        file.write(b"WANDB " * 500_000)
    # Names, and what lies at the wrong depth.
    write_run(root, ("hostile", "g", "n", "\udcff\udc80"))
    write_run(root, ("hostile", "g", "n", "line\nbreak\r\x1b[31m"))
    write_run(root, ("hostile", "g", "n", "x" * 255))
    for shallow in (
        "metadata.json",
        "hostile/metadata.json",
        "hostile/g/metadata.json",
        "hostile/g/n/metadata.json",
    ):
        (root / shallow).write_text('{"status": "running"}')
    write_raw(root / "hostile" / "g" / "n" / "deeper" / "still", b'{"status": "running"}')


@pytest.fixture
def hostile(
    valkey: RunningServer, status_dir: Path, namespace: str, tmp_path: Path
) -> Iterator[Rig]:
    for number in range(GOOD):
        write_run(status_dir, good(number))
    plant(status_dir, tmp_path / "outside")
    with Rig(valkey.url, status_dir, namespace) as rig:
        rig.refresh()
        yield rig


def test_every_good_job_stays_fresh(hostile: Rig) -> None:
    cache = hostile.cache
    for number in range(0, GOOD, 7):
        write_run(hostile.status_dir, good(number), status="completed")
    hostile.refresh(Scope.POLL)
    found = {names: job for job in cache.list_all_jobs(limit=None) for names in names_of([job])}
    for number in range(GOOD):
        expected = JobStatus.COMPLETED if number % 7 == 0 else JobStatus.RUNNING
        assert found[good(number)].status is expected
    hostile_runs = {job.run_id for names, job in found.items() if names[0] == "hostile"}
    assert hostile_runs == {
        "nan",
        "surrogate",
        "types",
        "digits",
        "log fifo",
        "large log",
        "long line",
        "\uefff\uef80",
        "line\nbreak\r\x1b[31m",
        "x" * 255,
    }
    assert {names[0] for names in found} == {"hostile", *(f"p{number}" for number in range(5))}
    assert not [names for names in found if "stolen" in names or "escape" in names]
    digits = cache.get_job("hostile", "g", "n", "digits")
    assert digits is not None
    assert digits.hardware.total_chips == 0
    assert 8 <= int(cache.meta()["errors"]) <= 12


def test_a_log_is_read_no_further_than_its_cap(hostile: Rig) -> None:
    runs = hostile.refresher.scanner.snapshot.runs
    for name in (b"large log", b"long line"):
        for _ in range(8):
            hostile.refresh()
        mark = runs[b"hostile/g/n/" + name].log.mark
        assert mark is not None
        assert mark.searched <= hostile.refresher.settings.log_scan_bytes


@pytest.mark.parametrize("later", [0, 3600])
def test_the_file_tells_which_of_two_equal_hours_it_is_from(
    valkey: RunningServer, status_dir: Path, namespace: str, later: int
) -> None:
    """The clocks of Berlin went back at 01:00 UTC on 25 October 2026."""
    written = datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp() + later
    twice = "2026-10-25T02:30:00"
    run = write_run(status_dir, good(0), last_heartbeat=twice, start_time=twice)
    os.utime(run / "metadata.json", (written, written))
    with Rig(valkey.url, status_dir, namespace, timezone="Europe/Berlin") as rig:
        rig.refresh()
        job = rig.cache.get_job(*good(0))
    assert job is not None
    assert job.started_at is not None
    assert job.heartbeat_at is not None
    assert (job.started_at.timestamp(), job.heartbeat_at.timestamp()) == (written, written)
