"""What is not read, as Redis holds it and both clients tell it, on every kind of server."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as LostError

from jobcache import CacheNotReady, CacheUnavailable, JobCache, Problem
from jobcache.schema.problems import PROBLEMS_CAP, encode_problem
from jobcache_refresher.publish.problems import PublishedProblems
from jobcache_refresher.publish.store import Store
from jobcache_refresher.scan.scope import Scope
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import Names, run_dir, write_raw, write_run

REASON = "cannot be read: not a regular file"
BAD: list[Names] = [
    ("p", "g", "n", "r2"),
    ("p", "g", "n", "r10"),
    ("p", "g2", "n", "r"),
    ("q", "*?[", "line\nend", "r"),
    (os.fsdecode(b"r\xff"), "g", "n", "\x1b[2J"),
]


def spoil(root: Path, names: Names) -> None:
    """Put a directory where a run's file belongs."""
    (run_dir(root, names) / "metadata.json").mkdir(parents=True)


def mend(root: Path, names: Names) -> None:
    (run_dir(root, names) / "metadata.json").rmdir()
    write_run(root, names)


@pytest.fixture
def spoilt(rig: Rig) -> Rig:
    """A run that can be read beside those that cannot."""
    write_run(rig.status_dir, ("p", "g", "n", "r1"))
    for names in BAD:
        spoil(rig.status_dir, names)
    rig.refresh()
    return rig


def paths(problems: list[Problem]) -> list[str]:
    return [problem.path for problem in problems]


def known_since(cache: JobCache) -> dict[str, Any]:
    return {problem.path: problem.since for problem in cache.problems()}


ALL = ["p/g/n/r10", "p/g/n/r2", "p/g2/n/r", "q/*?[/line\nend/r", "r\uefff/g/n/\x1b[2J"]


# What clients are told


def test_problems_name_every_path_with_reason_and_time(spoilt: Rig) -> None:
    found = spoilt.cache.problems()
    assert paths(found) == ALL
    assert {problem.reason for problem in found} == {REASON}
    fresh = spoilt.cache.last_freshness
    assert fresh is not None
    assert fresh.completed_at is not None
    for problem in found:
        assert 0 <= (fresh.completed_at - problem.since).total_seconds() < 5
    assert spoilt.cache.counts().problems == len(ALL)
    assert spoilt.cache.get_dashboard_stats().problems == len(ALL)
    assert spoilt.cache.meta()["problems"] == str(len(ALL))


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        (None, ALL),
        ("", ALL),
        ("/", ALL),
        ("p", ALL[:3]),
        ("p/g", ALL[:2]),
        ("p/g/", ALL[:2]),
        ("p/g2", [ALL[2]]),
        ("p/g/n/r1", []),
        ("p/g/n/r10", [ALL[0]]),
        ("p/g/n/r10/output.log", [ALL[0]]),
        ("q/*?[", [ALL[3]]),
        ("q/%", []),
        ("r\uefff", [ALL[4]]),
        ("r\udcff/g", [ALL[4]]),
        ("absent", []),
        ("\ud800", []),
    ],
)
def test_problems_of_a_path_go_by_whole_names(
    spoilt: Rig, prefix: str | None, expected: list[str]
) -> None:
    assert paths(spoilt.cache.problems(prefix)) == expected
    assert paths(spoilt.cache.problems(prefix, limit=1)) == expected[:1]
    assert paths(spoilt.cache.problems(prefix, limit=None)) == expected


def test_problems_of_a_path_tell_of_the_directories_above_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = rig.refresher.tree.list_directory

    def deny(path: bytes, *rest: Any, **options: Any) -> Any:
        if path == b"p/g":
            raise PermissionError(13, "Permission denied")
        return listed(path, *rest, **options)

    write_run(rig.status_dir, ("p", "g", "n", "r1"))
    monkeypatch.setattr(rig.refresher.tree, "list_directory", deny)
    rig.refresh()
    for prefix in ("p/g/n/r1", "p/g/n", "p/g", "p"):
        (problem,) = rig.cache.problems(prefix)
        assert (problem.path, problem.reason) == ("p/g", "cannot be listed: Permission denied")
    assert rig.cache.problems("p/g1") == []


def test_problems_take_one_round_trip(spoilt: Rig) -> None:
    spoilt.cache.problems()
    for args in ((), ("p/g",), ("\ud800",)):
        spoilt.replies.clear()
        spoilt.cache.problems(*args)
        assert len(spoilt.replies) == 1


def test_problems_of_both_clients_are_the_same(spoilt: Rig) -> None:
    async def ask() -> list[list[Problem]]:
        async with spoilt.async_client() as cache:
            return [await cache.problems(), await cache.problems("p/g", 1)]

    assert asyncio.run(ask()) == [spoilt.cache.problems(), spoilt.cache.problems("p/g", 1)]


def test_problems_are_the_callers_own(spoilt: Rig) -> None:
    is_away = False

    def interrupt(_: object, __: object) -> None:
        if is_away:
            raise CacheUnavailable("away")

    cache = JobCache(
        spoilt.url, namespace=spoilt.namespace, stale_if_error=60, on_exchange=interrupt
    )
    cache.problems()[0].reason = "changed"
    is_away = True
    cache.problems()[0].reason = "changed"
    assert cache.problems()[0].reason == REASON
    assert cache.last_freshness is not None
    assert cache.last_freshness.last_good
    cache.close()


def test_problems_of_a_cache_without_any_are_none(rig: Rig) -> None:
    with pytest.raises(CacheNotReady):
        rig.cache.problems()
    with pytest.raises(CacheNotReady):
        rig.cache.problems("\ud800")
    rig.refresh()
    assert rig.cache.problems() == []
    assert rig.cache.counts().problems == 0
    with pytest.raises(ValueError, match="limit=-1"):
        rig.cache.problems(limit=-1)


# What Redis holds


def held(rig: Rig, server: RunningServer) -> dict[bytes, Any]:
    with server.client() as redis:
        raw = redis.hgetall(rig.refresher.keys.problems)
    return {path: json.loads(value) for path, value in raw.items()}


def test_redis_holds_json_by_path(spoilt: Rig, server: RunningServer) -> None:
    found = held(spoilt, server)
    assert set(found) == {os.fsencode("/".join(names)) for names in BAD}
    for entry in found.values():
        assert set(entry) == {"reason", "since"}
        assert entry["reason"] == REASON


def test_a_problem_that_ends_is_dropped_and_others_stay(spoilt: Rig) -> None:
    before = known_since(spoilt.cache)
    mend(spoilt.status_dir, BAD[0])
    spoil(spoilt.status_dir, ("a", "new", "one", "r"))
    spoilt.refresh()
    after = known_since(spoilt.cache)
    assert list(after) == ["a/new/one/r", *(path for path in ALL if path != "p/g/n/r2")]
    assert after.pop("a/new/one/r") > max(before.values())
    assert after == {path: before[path] for path in after}
    assert spoilt.cache.counts().problems == len(ALL)


def test_a_file_caught_while_it_is_written_is_no_problem_at_first(rig: Rig) -> None:
    write_raw(run_dir(rig.status_dir, BAD[0]), b'{"name": ')
    rig.refresh()
    assert rig.cache.problems() == []
    rig.refresh()
    (problem,) = rig.cache.problems()
    assert problem.reason.startswith("metadata.json is no job: ")
    write_run(rig.status_dir, BAD[0])
    rig.refresh()
    assert rig.cache.problems() == []


def test_since_survives_a_restart(spoilt: Rig, server: RunningServer) -> None:
    write_raw(run_dir(spoilt.status_dir, ("p", "g", "n", "empty")), b"")
    spoilt.settle()
    before = known_since(spoilt.cache)
    assert len(before) == len(ALL) + 1
    spoilt.refresher.close()
    with Rig(server.url, spoilt.status_dir, spoilt.namespace) as other:
        assert known_since(other.cache) == before
        other.refresh()
        assert known_since(other.cache) == before, "after one scan, too"
        mend(spoilt.status_dir, BAD[0])
        other.refresh()
        assert set(known_since(other.cache)) == set(before) - {"p/g/n/r2"}


def test_since_survives_an_epoch_that_is_begun_anew(spoilt: Rig, server: RunningServer) -> None:
    before = known_since(spoilt.cache)
    with server.client() as redis:
        redis.delete(*redis.keys(spoilt.refresher.keys.prefix + b"*"))
    spoilt.refresher.lead()
    spoilt.refresh()
    assert known_since(spoilt.cache) == before
    assert spoilt.cache.counts().problems == len(ALL)


@pytest.mark.parametrize(
    "command",
    [
        ("DEL",),
        ("HDEL", "p/g/n/r2"),
        ("HSET", "nobody/s", "x"),
        ("SET", "x"),
        ("RPUSH", "x"),
    ],
    ids=" ".join,
)
def test_what_others_do_to_the_key_is_made_right(
    spoilt: Rig, server: RunningServer, command: tuple[str, ...]
) -> None:
    before, epoch = held(spoilt, server), spoilt.cache.freshness().epoch
    verb, *rest = command
    with server.client() as redis:
        if verb == "RPUSH":
            redis.delete(spoilt.refresher.keys.problems)
        redis.execute_command(verb, spoilt.refresher.keys.problems, *rest)
    if verb == "HSET":
        assert paths(spoilt.cache.problems()) == ALL, "an entry that cannot be read is passed over"
    spoilt.refresh(Scope.POLL)
    assert held(spoilt, server) == before
    assert spoilt.cache.freshness().epoch == epoch


def test_a_scan_without_news_writes_no_problem(
    spoilt: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = Store.write

    def noted(self: Store, script: str, *rest: Any) -> Any:
        written.append(script)
        return write(self, script, *rest)

    monkeypatch.setattr(Store, "write", noted)
    spoilt.refresh(Scope.POLL)
    assert written == ["complete"]
    mend(spoilt.status_dir, BAD[0])
    spoilt.refresh()
    assert written.count("set_fields") == 1


def test_a_write_whose_reply_was_lost_is_made_whole(
    spoilt: Rig, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Store.write

    def lost(self: Store, script: str, *rest: Any) -> Any:
        reply = write(self, script, *rest)
        if script == "set_fields":
            raise LostError("lost")
        return reply

    spoil(spoilt.status_dir, ("a", "new", "one", "r"))
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", lost)
        with pytest.raises(LostError):
            spoilt.refresh()
    mend(spoilt.status_dir, ("a", "new", "one", "r"))
    spoilt.refresh()
    assert paths(spoilt.cache.problems()) == ALL
    assert len(held(spoilt, server)) == len(ALL)


def test_a_change_whose_reply_was_lost_is_not_taken_for_written(
    rig: Rig, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = rig.refresher.engine
    published = PublishedProblems(engine.server, engine.store, engine.keys)
    one, other = ({b"p/g": encode_problem(reason, 1.0)} for reason in ("one", "other"))
    published.write(one)
    write = Store.write

    def lost(*args: Any) -> Any:
        write(*args)
        raise LostError("lost")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", lost)
        with pytest.raises(LostError):
            published.write(other)
    published.write(one)
    assert held(rig, server)[b"p/g"]["reason"] == "one"


def test_more_than_the_cap_are_counted_and_directories_come_first(
    rig: Rig, server: RunningServer
) -> None:
    rig.refresh()
    announcer = rig.refresher.engine.announcer
    runs = [(b"p/g/n/%05d" % number, REASON) for number in range(PROBLEMS_CAP + 50)]
    announcer.problems.note([*runs, (b"z", "is a link")], 1.0)
    announcer.complete(rig.refresher.store.start_scan(), {})
    assert rig.cache.counts().problems == PROBLEMS_CAP + 51
    found = rig.cache.problems(limit=None)
    assert len(found) == len(held(rig, server)) == PROBLEMS_CAP
    assert found[-1].path == "z"
    assert len(rig.cache.problems()) == 100
