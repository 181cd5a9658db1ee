"""A cache to be damaged, what damages it, and what finds that."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from redis import Redis

from jobcache.cli.checkup import Checkup
from jobcache_refresher.publish.server import FencedError
from jobcache_refresher.scan.scope import Scope
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import STATUSES, Names, write_run

RUN: Names = ("p", "g", "n", "r0")
"""A running one."""


JOB = "job:p/g/n/r0"


Command = tuple[str, ...]


def fill(root: Path, count: int) -> None:
    """Runs in two projects and two groups, every fourth of them running."""
    for number in range(count):
        names = ("pq"[number % 2], "gh"[number // 2 % 2], "n", f"r{number}")
        started = datetime.now() - timedelta(minutes=number)
        status = STATUSES[number % 4]
        write_run(root, names, status=status, start_time=started.isoformat())


def change(rig: Rig, redis: Redis, command: Command) -> None:
    """Do something to a key, named without its prefix; a SET replaces whatever is there."""
    verb, key, *rest = command
    redis.execute_command(verb, rig.refresher.keys.full(key.encode()), *rest)


def keys_of(rig: Rig, redis: Redis) -> list[bytes]:
    return list(redis.scan_iter(rig.refresher.keys.prefix + b"*"))


def findings(rig: Rig) -> Counter[str]:
    """What the doctor finds."""
    with closing(Checkup(rig.url, namespace=rig.namespace, deadline=10)) as checkup:
        report = checkup.examine()
    assert not report.notes
    return report.findings


def limited(server: RunningServer, user: str, *rights: str) -> str:
    """The URL of a user with these rights only."""
    with server.client() as redis:
        redis.execute_command("ACL", "SETUSER", user, "reset", "on", ">secret", "~*", *rights)
    url = server.admin_url or server.url
    return url.replace("unix://", f"unix://{user}:secret@")


def recover(rig: Rig) -> None:
    """As the loop of a refresher does."""
    for _ in range(3):
        try:
            if rig.refresh(Scope.POLL):
                return
        except FencedError:
            rig.refresher.lease.drop()
            rig.refresher.lead()
    pytest.fail("the cache does not recover")
