"""A reader who may run no scripts is answered all the same, by plain commands, and as if it could."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Generator, Iterator
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from redis import Redis
from redis.exceptions import ResponseError

from jobcache import (
    AsyncJobCache,
    CacheNotReady,
    CacheUnavailable,
    ChangeKind,
    JobCache,
)
from jobcache.cli.checkup import Checkup
from jobcache.connection.dialogue import ServerTraits, converse, converse_by
from jobcache.plans import plainreads
from jobcache.plans.header import META_FIELDS
from jobcache.plans.plan import Ask, AskAll, Command, Plan, Run
from jobcache.plans.scripts import read_jobs_script, read_script
from tests.contract import test_random_tree
from tests.contract.compare import assert_agrees, names_of
from tests.harness import Rig
from tests.hostile import OK, RESET_AFTER, Reply, hostile
from tests.servers import PLAIN_READER, READER, RunningServer, password_of
from tests.trees import Names, delete_run, write_run

T = TypeVar("T")

NOON = datetime(2026, 11, 1, 12)
RUN: Names = ("p", "g", "n", "r1")


class Doubter(JobCache):
    """A client that may run scripts, and asks by plain commands as well, whatever it asks."""

    def _answer(self, plan: Plan[T], *, reads: bool = False) -> T:
        return super()._answer(_ask_twice(plan), reads=reads)


def _ask_twice(plan: Plan[T]) -> Generator[Any, Any, T]:
    return converse_by(plan, _put_twice)


def _put_twice(step: Run) -> Generator[Run | AskAll, Any, Any]:
    reply = yield step
    if plainreads.can_read_plainly(step.script):
        plain = yield from plainreads.read_plainly(step)
        assert _timeless(plain) == _timeless(reply), step
    return reply


def _timeless(reply: list[Any]) -> list[Any]:
    head, *rest = reply
    return [head[:-1], *rest]


class DoubtingRig(Rig):
    """Whose clients ask twice."""

    def _client(self, url: str, **options: Any) -> JobCache:
        return Doubter(url, namespace=self.namespace, deadline=10, ready_timeout=1, **options)


@pytest.fixture
def plain(real_server: RunningServer, status_dir: Path, namespace: str) -> Iterator[Rig]:
    """A refresher to be stepped by hand, and clients that may run no scripts."""
    with Rig(real_server.url, status_dir, namespace, client_url=plain_url(real_server)) as ready:
        yield ready


@pytest.fixture
def valkey_plain(valkey: RunningServer, status_dir: Path, namespace: str) -> Iterator[Rig]:
    """The same on one server."""
    with Rig(valkey.url, status_dir, namespace, client_url=plain_url(valkey)) as ready:
        yield ready


def plain_url(server: RunningServer) -> str:
    assert server.admin_url is not None
    return RunningServer(server.kind, server.admin_url, server.pid).as_user(PLAIN_READER).url


def listen(
    monkeypatch: pytest.MonkeyPatch, cache: JobCache, then: Callable[[int], None] | None = None
) -> list[Ask | AskAll]:
    """What a client sends from now on; ``then`` is called after each exchange."""
    sent: list[Ask | AskAll] = []
    original: Any = cache._exchange

    def exchange(step: Ask | AskAll, ends: float) -> Any:
        sent.append(step)
        reply = original(step, ends)
        if then is not None:
            then(len(sent))
        return reply

    monkeypatch.setattr(cache, "_exchange", exchange)
    return sent


def verbs(step: Ask | AskAll) -> list[Any]:
    commands = [step.args] if isinstance(step, Ask) else step.commands
    return [command[0] for command in commands]


class TestAnswers:
    def test_every_answer_agrees_with_the_tree(self, plain: Rig) -> None:
        for number, status in product(range(4), ("running", "failed", "strange")):
            run = ("p:1", f"g{number % 2}", "n*?[", f"{status}{number}")
            write_run(plain.status_dir, run, status=status)
        write_run(plain.status_dir, ("q", "\udc80", "n", " "), start_time="yesterday")
        plain.settle()
        assert_agrees(plain)
        assert_agrees(plain)
        assert plain.cache.meta()["state"] == "ready"
        assert list(plain.cache.changes(wait=0)) == []
        (resync,) = plain.cache.changes("x/0-0", wait=0)
        assert resync.kind is ChangeKind.RESYNC
        write_run(plain.status_dir, ("q", "\udc80", "n", " "), status="completed")
        delete_run(plain.status_dir, ("p:1", "g1", "n*?[", "failed1"))
        plain.settle()
        assert_agrees(plain)
        changes = plain.cache.changes(resync.position, wait=0)
        assert {change.kind for change in changes} == {ChangeKind.MODIFIED, ChangeKind.DELETED}
        plain.refresher.reconciler.rebuild()
        plain.settle()
        assert_agrees(plain)

    def test_more_jobs_than_travel_together(self, valkey_plain: Rig) -> None:
        for number in range(450):
            run = ("p", f"g{number % 3}", "n", f"r{number:03}")
            write_run(valkey_plain.status_dir, run, status=("running", "failed")[number % 2])
        valkey_plain.refresh()
        with JobCache(valkey_plain.url, namespace=valkey_plain.namespace, deadline=10) as other:
            for cache in (valkey_plain.cache, valkey_plain.forgetful):
                for _ in range(2):
                    for group in (None, "g1"):
                        assert cache.list_all_jobs(group=group, limit=None) == other.list_all_jobs(
                            group=group, limit=None
                        )
                    assert cache.get_running_jobs() == other.get_running_jobs()

    @pytest.mark.parametrize("most", [1, 3, 1000])
    def test_what_the_scripts_reply(
        self,
        real_server: RunningServer,
        status_dir: Path,
        namespace: str,
        most: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(plainreads, "MOST_COMMANDS", most)
        monkeypatch.setattr("jobcache.plans.queries.MOST_RUNNING", most)
        monkeypatch.setattr("jobcache.plans.queries.MOST_RUNNING_READ", max(1, most - 1))
        for number, status in product(range(5), ("running", "failed")):
            run = ("p", f"g{number % 2}", "n", f"{status}{number}")
            late = (datetime.now() - timedelta(minutes=2 * number)).isoformat()
            write_run(status_dir, run, status=status, last_heartbeat=late)
        with DoubtingRig(real_server.url, status_dir, namespace) as rig:
            rig.settle()
            for _ in range(2):
                assert_agrees(rig)
            write_run(status_dir, ("p", "g0", "n", "failed0"), status="completed")
            rig.refresh()
            assert_agrees(rig)
            (resync,) = rig.cache.changes("x/0-0", wait=0)
            write_run(status_dir, ("p", "g0", "n", "failed0"), status="failed")
            rig.refresh()
            assert len(list(rig.cache.changes(resync.position, wait=0))) == 1

    def test_whatever_the_reader_knows(
        self, real_server: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        for number in range(4):
            write_run(status_dir, ("p", "g", "n", f"r{number}"), status="running")
        with DoubtingRig(real_server.url, status_dir, namespace) as rig:
            rig.refresh()
            write_run(status_dir, ("p", "g", "n", "r1"), status="running", slurm_job_id="2")
            rig.refresh()
            keys, cache = rig.refresher.keys, rig.cache
            fresh = cache.freshness()
            job = keys.full(b"job:")
            paths = [b"p/g/n/r%d" % number for number in range(5)]

            def ask(step: Run) -> Plan[Any]:
                return (yield step)

            for epoch, generation in product(
                (fresh.epoch.encode(), b"another", b""), (0, 1, 2, fresh.generation, 99)
            ):
                since = (epoch, generation)
                for whole in (b"1", b""):
                    page = (*since, whole, 3, b"", b"", b"", b"", job)
                    cache._answer(ask(Run(read_jobs_script("page"), (keys.meta, keys.jobs), page)))
                    running = (*since, whole, 1000, 500, job)
                    cache._answer(
                        ask(Run(read_jobs_script("running"), (keys.meta, keys.running), running))
                    )
                some: Command = (*since, job, *paths)
                cache._answer(ask(Run(read_jobs_script("jobs"), (keys.meta,), some)))
            for path, revision in product(paths, (b"", b"1", b"2", b"3", b"4")):
                step = Run(read_jobs_script("job"), (keys.meta, job + path), (revision,))
                cache._answer(ask(step))

    @pytest.mark.timeout(300)
    def test_random_edits(self, valkey: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(test_random_tree, "Rig", DoubtingRig)
        run_state_machine_as_test(
            type("Machine", (test_random_tree.TreeMachine,), {"server": valkey}),
            settings=settings(
                max_examples=4,
                stateful_step_count=10,
                deadline=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )

    def test_async(self, plain: Rig) -> None:
        write_run(plain.status_dir, RUN, status="running")
        plain.settle()

        async def ask() -> None:
            url = plain.cache_url
            async with AsyncJobCache(url, namespace=plain.namespace, deadline=10) as cache:
                for _ in range(2):
                    assert names_of(await cache.list_all_jobs()) == [RUN]
                    assert names_of(await cache.get_running_jobs()) == [RUN]
                    assert (await cache.get_dashboard_stats()).total_jobs == 1
                    assert await cache.get_job(*RUN) == plain.cache.get_job(*RUN)
                    assert (await cache.page()).total == 1

        asyncio.run(ask())


class TestPages:
    @pytest.mark.parametrize("spare", [0, plainreads.SPARE])
    def test_equal_scores_of_several_statuses(
        self, plain: Rig, spare: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In whatever order they are written, and wherever the rows are of which the cursors are."""
        monkeypatch.setattr(plainreads, "SPARE", spare)
        monkeypatch.setattr(plainreads, "PROBES", 3)
        for number in range(120):
            write_run(
                plain.status_dir,
                ("p", "g", ("a", "a\x01", "b", "\udcff")[number % 4], f"r{number}"),
                start_time="yesterday" if number % 3 else NOON.isoformat(),
                status=("failed", "completed", "strange")[number % 5 % 3],
            )
        plain.refresh()
        with JobCache(plain.url, namespace=plain.namespace, deadline=10) as other:
            filters: dict[str, Any]
            for filters in ({}, {"project": "p"}, {"group": "g"}, {"status": "failed"}):
                walked: list[Names] = []
                cursor, count = None, 0
                while True:
                    page = plain.cache.page(**filters, limit=7, cursor=cursor)
                    same = other.page(**filters, limit=7, cursor=cursor)
                    assert (page.jobs, page.total, page.cursor) == (
                        *(same.jobs, same.total, same.cursor),
                    )
                    walked += names_of(page.jobs)
                    cursor, count = page.cursor, count + 1
                    if cursor is None:
                        break
                expected = names_of(other.list_all_jobs(**filters, limit=None))
                assert walked == expected
                assert count > 3

    def test_a_cursor_whose_job_is_gone(self, valkey_plain: Rig) -> None:
        rig = valkey_plain
        runs = [("p", "g", "n", f"r{number:03}") for number in range(90)]
        for run in runs:
            write_run(rig.status_dir, run, start_time=NOON.isoformat())
        rig.refresh()
        first = rig.cache.page(limit=50)
        assert names_of(first.jobs) == runs[:39:-1]
        delete_run(rig.status_dir, runs[40])
        write_run(rig.status_dir, runs[60], start_time="yesterday")
        write_run(rig.status_dir, ("p", "g", "n", "r0395"), start_time=NOON.isoformat())
        rig.settle()
        second = rig.cache.page(limit=50, cursor=first.cursor)
        assert names_of(second.jobs) == [("p", "g", "n", "r0395"), *runs[39::-1], runs[60]]
        assert second.cursor is None


class TestTheGuard:
    @pytest.fixture
    def crowd(self, valkey_plain: Rig) -> Rig:
        for number in range(6):
            write_run(valkey_plain.status_dir, ("p", "g", "n", f"r{number}"), status="running")
        valkey_plain.refresh()
        return valkey_plain

    CALLS: dict[str, Callable[[JobCache], Any]] = {
        "page": lambda cache: cache.page(limit=10),
        "list": lambda cache: cache.list_all_jobs("p", "g"),
        "running": lambda cache: cache.get_running_jobs(),
        "recent": lambda cache: cache.get_recent_jobs(1e6),
        "stats": lambda cache: cache.get_dashboard_stats(),
    }

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    @pytest.mark.parametrize("memo", ["cold", "warm"])
    def test_what_is_written_meanwhile_is_seen_whole_or_not_at_all(
        self, crowd: Rig, call: Any, memo: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All jobs are of one status at any moment."""
        cache = crowd.cache if memo == "warm" else crowd.forgetful
        call(cache)

        def flip(after: int) -> None:
            if after in (1, 2):
                self.write_all(crowd, {1: "failed", 2: "running"}[after])

        sent = listen(monkeypatch, cache, flip)
        self.write_all(crowd, "running")
        answer = call(cache)
        assert len(sent) >= 4
        assert _without_age(answer) == _without_age(call(cache))
        with JobCache(crowd.url, namespace=crowd.namespace) as other:
            assert _without_age(answer) == _without_age(call(other))

    @staticmethod
    def write_all(rig: Rig, status: str) -> None:
        for number in range(6):
            write_run(rig.status_dir, ("p", "g", "n", f"r{number}"), status=status)
        rig.refresh()

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_who_writes_all_the_time_keeps_nobody_from_an_answer(
        self, crowd: Rig, call: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call(crowd.cache)

        def write(_: int) -> None:
            crowd.refresh()

        sent = listen(monkeypatch, crowd.cache, write)
        crowd.refresh()
        assert call(crowd.cache)
        assert len(sent) <= 10

    def test_no_answer_is_half_of_another_epoch(
        self, crowd: Rig, valkey: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not even when everything has been asked as often as it is."""
        keys = crowd.refresher.keys
        assert len(crowd.forgetful.list_all_jobs()) == 6

        def meddle(after: int) -> None:
            if after < 5:
                crowd.refresh()
            elif after == 5:
                with valkey.client() as redis:
                    redis.delete(*(keys.full(b"job:p/g/n/r%d" % number) for number in range(6)))
                    redis.hset(keys.meta, mapping={"epoch": "another", "state": "building"})

        sent = listen(monkeypatch, crowd.forgetful, meddle)
        with pytest.raises(CacheNotReady):
            crowd.forgetful.list_all_jobs()
        assert len(sent) > 6


def _without_age(answer: Any) -> Any:
    return answer.jobs if hasattr(answer, "jobs") else answer


class TestTravel:
    def test_round_trips(self, valkey_plain: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a reader that knows nothing, the same again, after a change elsewhere, and after one of what is shown."""
        rig = valkey_plain
        elsewhere: Names = ("elsewhere", "e", "e", "e")
        calls: dict[str, tuple[Callable[[JobCache], Any], list[int]]] = {
            "freshness": (lambda cache: cache.freshness(), [1, 1, 1, 1]),
            "get_job": (lambda cache: cache.get_job(*RUN), [1, 1, 1, 2]),
            "stats": (lambda cache: cache.get_dashboard_stats(), [2, 1, 3, 3]),
            "list": (lambda cache: cache.list_all_jobs("p"), [2, 1, 3, 4]),
            "page": (lambda cache: cache.page("p", "g"), [2, 1, 3, 4]),
            "runs": (lambda cache: cache.get_job_runs(*RUN[:3]), [2, 1, 3, 4]),
            "running": (lambda cache: cache.get_running_jobs(), [2, 1, 3, 4]),
            "recent": (lambda cache: cache.get_recent_jobs(87600), [2, 1, 3, 4]),
        }
        number = 0
        for name, (call, expected) in calls.items():
            write_run(rig.status_dir, RUN, status="running")
            rig.refresh()
            with JobCache(rig.cache_url, namespace=rig.namespace, deadline=10) as cache:
                cache.freshness()  # which finds out what is allowed
                sent = listen(monkeypatch, cache)
                trips = []
                for change in (None, None, elsewhere, RUN):
                    if change is not None:
                        number += 1
                        status = "running" if change == RUN else "failed"
                        start = "1970-02-01T00:00:00" if change == elsewhere else NOON.isoformat()
                        write_run(
                            rig.status_dir,
                            change,
                            status=status,
                            slurm_job_id=str(number),
                            start_time=start,
                        )
                        rig.refresh()
                    sent.clear()
                    call(cache)
                    trips.append(len(sent))
                assert trips == expected, name

    def test_a_page_further_on(self, valkey_plain: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        for number in range(30):
            write_run(valkey_plain.status_dir, ("p", "g", "n", f"r{number}"))
        valkey_plain.refresh()
        cache = valkey_plain.forgetful
        cursor = cache.page(limit=10).cursor
        sent = listen(monkeypatch, cache)
        assert len(cache.page(limit=10, cursor=cursor).jobs) == 10
        assert len(sent) == 2

    def test_what_is_known_does_not_travel(
        self, valkey_plain: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(5):
            write_run(valkey_plain.status_dir, ("p", "g", "n", f"r{number}"))
        valkey_plain.refresh()
        valkey_plain.cache.list_all_jobs()
        write_run(valkey_plain.status_dir, ("p", "g", "n", "r3"), slurm_job_id="changed")
        valkey_plain.refresh()
        sent = listen(monkeypatch, valkey_plain.cache)
        jobs = {job.run_id: job for job in valkey_plain.cache.list_all_jobs()}
        assert jobs["r3"].slurm_job_id == "changed"
        read = [
            str(command[1])
            for step in sent
            if isinstance(step, AskAll)
            for command in step.commands
            if b"config" in command
        ]
        assert [key[-3:-1] for key in read] == ["r3"]
        sent.clear()
        valkey_plain.cache.list_all_jobs()
        assert [verbs(step) for step in sent] == [[b"HMGET", b"TYPE", b"TIME"]]

    def test_each_page_of_a_long_answer_has_a_deadline_of_its_own(
        self, valkey_plain: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(450):
            write_run(valkey_plain.status_dir, ("p", "g", "n", f"r{number:03}"))
        valkey_plain.refresh()
        cache = valkey_plain.cache
        cache.freshness()
        sent = listen(monkeypatch, cache)
        assert len(cache.list_all_jobs(limit=None)) == 450
        assert [step.renews for step in sent] == [False, False, True, False, True, False]

    def test_the_refusal_costs_one_trip_once(
        self, plain: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain.refresh()
        sent = listen(monkeypatch, plain.cache)
        plain.cache.freshness()
        plain.cache.freshness()
        plain.cache.list_all_jobs()
        assert verbs(sent[0]) == [b"EVALSHA_RO"]
        assert not any(b"EVAL" in verb for step in sent[1:] for verb in verbs(step))
        assert len(sent) == 1 + 1 + 1 + 2

    def test_who_may_run_scripts_does(
        self, valkey: RunningServer, status_dir: Path, namespace: str, monkeypatch: Any
    ) -> None:
        assert valkey.admin_url is not None
        url = RunningServer(valkey.kind, valkey.admin_url, valkey.pid).as_user(READER).url
        with Rig(valkey.url, status_dir, namespace, client_url=url) as rig:
            rig.refresh()
            sent = listen(monkeypatch, rig.cache)
            with valkey.client() as redis:
                redis.lpush(rig.refresher.keys.jobs + b"-", "x")
                redis.rename(rig.refresher.keys.jobs + b"-", rig.refresher.keys.jobs)
            for _ in range(2):
                with pytest.raises(CacheUnavailable, match="wrong kind of value"):
                    rig.cache.list_all_jobs()
            assert all(verbs(step)[0].startswith(b"EVAL") for step in sent)


class TestFailures:
    def test_a_deletion_names_the_right_that_is_missing(self, plain: Rig) -> None:
        write_run(plain.status_dir, RUN)
        plain.refresh()
        for _ in range(2):
            with pytest.raises(CacheUnavailable, match="no permissions to run the 'evalsha'"):
                plain.cache.delete_job(*RUN)
        assert plain.cache.get_job(*RUN) is not None

    def test_an_examination_takes_scripts(self, valkey_plain: Rig) -> None:
        valkey_plain.refresh()
        checkup = Checkup(valkey_plain.cache_url, namespace=valkey_plain.namespace)
        for _ in range(2):
            with pytest.raises(CacheUnavailable, match="no permissions to run the 'evalsha_ro'"):
                checkup.examine()
        checkup.close()

    def test_an_error_among_the_replies_leaves_a_connection_in_order(self, plain: Rig) -> None:
        write_run(plain.status_dir, RUN, status="running")
        plain.refresh()
        running = plain.refresher.keys.running

        async def ask() -> None:
            url = plain.cache_url
            async with AsyncJobCache(url, namespace=plain.namespace, max_connections=1) as cache:
                for _ in range(2):
                    with pytest.raises(CacheUnavailable, match="wrong kind of value"):
                        await cache.get_running_jobs()
                    assert names_of(await cache.list_all_jobs()) == [RUN]

        with Redis.from_url(plain.url, protocol=2) as redis:
            redis.delete(running)
            redis.hset(running, "x", "y")
        for _ in range(2):
            with pytest.raises(CacheUnavailable, match="wrong kind of value"):
                plain.forgetful.get_running_jobs()
            assert names_of(plain.forgetful.list_all_jobs()) == [RUN]
        (connection,) = plain.forgetful._here.get().primary.pool._idle
        assert connection._sock is not None
        asyncio.run(ask())

    def test_the_time_must_be_told(self, valkey_plain: Rig, valkey: RunningServer) -> None:
        """Ages are by the server's clock, or not at all."""
        valkey_plain.refresh()
        user = f"timeless-{valkey_plain.namespace}"
        with valkey.client() as redis:
            redis.execute_command("ACL", "SETUSER", user, *RIGHTS_BUT_TIME)
        url = valkey_plain.cache_url.replace(f"{PLAIN_READER}:", f"{user}:")
        cache = JobCache(url, namespace=valkey_plain.namespace)
        for _ in range(2):
            with pytest.raises(CacheUnavailable, match="no permissions to run the 'time'"):
                cache.list_all_jobs()
        cache.close()


class Scriptless:
    """A server without scripts, which answers a header, and a ``TIME`` as often as it is well."""

    HEADER = b"*11\r\n" + b"".join(
        b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)
        for value in (b"1", b"e", b"7", b"ready", None, b"1", b"300", b"/s", None, None, None)
    )
    TIME = b"*2\r\n$1\r\n5\r\n$1\r\n0\r\n"

    def __init__(self, fault: Reply) -> None:
        self.fault = fault
        self.well = 1

    def __call__(self, command: list[bytes]) -> Reply:
        name = command[0]
        if name.startswith(b"EVAL"):
            return b"-ERR unknown command '%b', with args beginning with: \r\n" % name
        if name == b"HMGET":
            return self.HEADER
        if name != b"TIME":
            return OK
        self.well -= 1
        return self.fault if self.well == -1 else self.TIME


class TestLostConnections:
    """Where some of the replies have come, and others do not."""

    @staticmethod
    def ask(kind: str, url: str, times: int) -> list[Any]:
        """Generations, or what was raised, and the connections that are kept."""
        answers: list[Any] = []
        if kind == "sync":
            cache = JobCache(url, deadline=0.4)
            for _ in range(times):
                try:
                    answers.append(cache.freshness().generation)
                except CacheUnavailable as error:
                    answers.append(type(error))
            idle = len(cache._here.get().primary.pool._idle)
            cache.close()
            return [*answers, idle]

        async def ask() -> list[Any]:
            cache = AsyncJobCache(url, deadline=0.4)
            for _ in range(times):
                try:
                    answers.append((await cache.freshness()).generation)
                except CacheUnavailable as error:
                    answers.append(type(error))
            idle = len(cache._here.get().primary.pool(asyncio.get_running_loop())._idle)
            await cache.stop()
            return [*answers, idle]

        return asyncio.run(ask())

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_a_kept_connection_that_breaks_is_tried_once_more(self, kind: str) -> None:
        with hostile(Scriptless(RESET_AFTER)) as server:
            assert self.ask(kind, server.url, 3) == [7, 7, 7, 1]
        assert server.accepted == 2

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_one_on_which_replies_may_still_come_is_not_kept(self, kind: str) -> None:
        with hostile(Scriptless(None)) as server:
            began = time.monotonic()
            assert self.ask(kind, server.url, 2) == [7, CacheUnavailable, 0]
            assert time.monotonic() - began < 1.5
        assert server.accepted == 1


RIGHTS_BUT_TIME = ("on", f">{password_of(PLAIN_READER)}", "~*", "+@all", "-@scripting", "-time")


class TestRefusals:
    @pytest.mark.parametrize(
        "message",
        [
            "this user has no permissions to run the 'evalsha_ro' command or its subcommand",
            "unknown command 'EVALSHA_RO', with args beginning with: 'x'",
            "unsupported command 'EVALSHA_RO'",
            "command evalsha_ro not support for your account",
        ],
    )
    def test_as_servers_and_proxies_put_it(self, message: str) -> None:
        traits = ServerTraits()
        step = Run(read_script("freshness"), (b"meta",))
        asked = self.converse(step, traits, message)
        assert asked[-1] == (b"HMGET", b"TYPE", b"TIME")
        assert not traits.scripts
        assert self.converse(step, traits, message) == asked[-1:]

    @pytest.mark.parametrize(
        "message",
        [
            "No permissions to access a key",
            "ACL failure in script: User u has no permissions to run the 'hget' command",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL.",
        ],
    )
    def test_what_else_a_script_meets(self, message: str) -> None:
        traits = ServerTraits()
        with pytest.raises(ResponseError, match=message):
            self.converse(Run(read_script("freshness"), (b"meta",)), traits, message)
        assert traits.scripts

    def test_a_server_that_only_lacks_the_read_only_kind(self) -> None:
        traits = ServerTraits()
        step = Run(read_script("freshness"), (b"meta",))
        asked = self.converse(step, traits, "unknown command 'EVALSHA_RO'", only=b"EVALSHA_RO")
        assert asked == [(b"EVALSHA_RO",), (b"EVALSHA",)]
        assert traits.scripts

    @staticmethod
    def converse(
        step: Run, traits: ServerTraits, refusal: str, only: bytes = b"EVAL"
    ) -> list[tuple[Any, ...]]:
        """The commands that are sent to a server that refuses some of them."""

        def plan() -> Plan[Any]:
            return (yield step)

        asked: list[tuple[Any, ...]] = []
        talk = converse(plan(), traits)
        sent = next(talk)
        while True:
            assert isinstance(sent, (Ask, AskAll))
            asked.append(tuple(verbs(sent)))
            try:
                if asked[-1][0].startswith(only):
                    sent = talk.throw(ResponseError(refusal))
                else:
                    sent = talk.send([[None] * len(META_FIELDS), b"none", [b"1", b"2"]])
            except StopIteration:
                return asked


def test_the_header_is_read_as_the_scripts_do() -> None:
    read = re.search(r"'HMGET', meta,([^)]*)\)", read_script("freshness").source)
    assert read is not None
    assert tuple(re.findall(r"'(\w+)'", read[1])) == tuple(map(bytes.decode, META_FIELDS))


def test_every_script_that_a_query_runs_has_a_stand_in() -> None:
    sources = "".join(path.read_text() for path in CLIENT.glob("*.py"))
    for name in re.findall(r"read(?:_jobs)?_script\(\"(\w+)\"\)", sources):
        assert plainreads.can_read_plainly(read_script(name)), name


CLIENT = Path(plainreads.__file__).parent
