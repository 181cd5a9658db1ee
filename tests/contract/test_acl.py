"""Least privilege: the users of deploy/redis/jobcache.acl can do what the code needs, and nothing else."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from redis import Redis
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    RedisError,
)

from jobcache import AsyncJobCache, CacheState, CacheUnavailable, JobCache
from jobcache_refresher import Refresher
from tests.contract.compare import assert_agrees, names_of
from tests.contract.test_random_tree import TreeMachine
from tests.harness import Rig
from tests.pages import DOCS
from tests.programs import JOBCACHE, REFRESHER, run
from tests.servers import (
    ACL_FILE,
    CLIENT,
    PLAIN_READER,
    READER,
    REAL_KINDS,
    USERS,
    WRITER,
    RunningServer,
    running_server,
    write_acl_file,
)
from tests.tools import require
from tests.trees import Names, write_run

ROOT = Path(__file__).parents[2]
SOURCES = [
    *(ROOT / "client").rglob("*.py"),
    *(ROOT / "refresher").rglob("*.py"),
    *(ROOT / "client").rglob("*.lua"),
    *(ROOT / "refresher").rglob("*.lua"),
]
PREFIX = "jobcache:{other}:"

RUNS: list[Names] = [
    ("p:1", "g", "n", "r1"),
    ("p:1", "g", "n", "r2"),
    ("p:1", "h:{x}", "n*?[", "r1"),
    ("q", "g", "n", " "),
]

DENIED_TO_ALL = """
    FLUSHALL | FLUSHDB | KEYS * | DBSIZE | RANDOMKEY | INFO | CONFIG GET maxmemory | CONFIG SET maxmemory 1
    CONFIG REWRITE | CONFIG RESETSTAT | ACL LIST | ACL WHOAMI | ACL SETUSER x on | ACL DELUSER default | ACL LOG
    SHUTDOWN NOSAVE | MONITOR | CLIENT KILL TYPE normal | CLIENT LIST | CLIENT PAUSE 1 | CLIENT NO-EVICT on
    SCRIPT FLUSH | SCRIPT LOAD return | SCRIPT KILL | FUNCTION LIST | FUNCTION FLUSH | MODULE LIST | DEBUG SLEEP 0
    REPLICAOF NO ONE | SLAVEOF NO ONE | FAILOVER | SAVE | BGSAVE | BGREWRITEAOF | LASTSAVE | SWAPDB 0 1 | LATENCY RESET
    SLOWLOG GET | MEMORY STATS | COMMAND | SUBSCRIBE x | PSUBSCRIBE * | PUBLISH x y | SYNC | PSYNC ? -1 | WAIT 0 1
    CLUSTER NODES | CLUSTER RESET | CLUSTER FAILOVER | MULTI
    DUMP {p}jobs | RESTORE {p}x 0 y | MIGRATE h 1 {p}jobs 0 1 | COPY {p}jobs {p}x | RENAME {p}jobs {p}x | MOVE {p}jobs 1
    EXPIRE {p}jobs 1 | SORT {p}jobs | OBJECT FREQ {p}jobs | APPEND {p}lease x | XTRIM {p}changes MAXLEN 0
    HGETALL other | HGET jobcache:other:meta state | ZCARD xjobcache:{{other}}:jobs | ZCARD jobcache:{{other}jobs
    HMGET jobcache:other:meta state | XREVRANGE other:{p}requests + - | ZRANGE JOBCACHE:{{other}}:jobs 0 -1
"""
DENIED_TO_READER = """
    SCAN 0 | GET {p}lease | SET {p}lease x | DEL {p}job:p/g/n/r | UNLINK {p}jobs | HSET {p}job:p/g/n/r status failed
    HSET {p}meta state ready | HDEL {p}meta state | HINCRBY {p}meta generation 1 | ZADD {p}jobs 1 x | ZREM {p}jobs x
    XADD {p}requests * request refresh | XADD {p}changes * change deleted | XREAD STREAMS {p}requests 0
    PEXPIRE {p}lease 1 | PERSIST {p}lease | ZREMRANGEBYSCORE {p}jobs 0 1 | EXISTS {p}jobs | TYPE other | ZSCAN other 0
    EVAL return(1) 0 | EVALSHA ffffffffffffffffffffffffffffffffffffffff 0
"""
DENIED_TO_CLIENT = """
    SCAN 0 | GET {p}lease | SET {p}lease x | DEL {p}lease | DEL {p}meta | DEL {p}jobs | UNLINK {p}job:p/g/n/r
    HSET {p}job:p/g/n/r status failed | HSET {p}meta state ready | HDEL {p}meta state | HINCRBY {p}job:p/g/n/r rev 1
    ZADD {p}jobs 1 x | ZADD {p}running 1 x | ZADD {p}status:failed 1 x | ZREM {p}tombstones x
    XADD {p}job:p/g/n/r * x y | PEXPIRE {p}lease 1 | ZREMRANGEBYSCORE {p}jobs 0 1 | XREAD STREAMS {p}requests 0
    DEL other | ZREM other x | XADD other * x y | XADD jobcache:other:requests * x y | EVAL return(1) 1 other
    EVAL return(1) 1 {p}lease | SET {p}release 1 | XADD {p}release * x y | HINCRBY {p}release x 1
"""
DENIED_TO_WRITER = """
    SET other x | SET jobcache:other:lease x | DEL other | UNLINK other {p}jobs | DEL {p}jobs other | ZADD other 1 x
    XADD other * x y | XREAD STREAMS {p}requests other 0 0 | EVAL return(1) 1 other | EVAL return(1) 2 {p}meta other
    HSET jobcache:{{other} x y | TYPE other | GETDEL {p}lease | FLUSHALL ASYNC
"""
DENIED_IN_SCRIPTS = {
    READER: """
        HGETALL other | GET {p}lease | HSET {p}meta state ready | DEL {p}jobs | KEYS * | FLUSHALL | CONFIG GET *
        PUBLISH x y | SCAN 0
    """,
    CLIENT: """
        HGETALL other | GET {p}lease | SET {p}lease x | DEL {p}lease | HSET {p}meta state ready | DEL {p}jobs
        HSET {p}job:p/g/n/r status failed | ZADD {p}jobs 1 x | HINCRBY {p}job:p/g/n/r rev 1 | DEL other | KEYS *
        XADD other * x y | FLUSHALL | CONFIG GET * | PUBLISH x y
    """,
    WRITER: """
        SET other x | HGETALL other | DEL other | KEYS * | FLUSHALL | CONFIG GET * | PUBLISH x y | SCRIPT FLUSH
    """,
}


def commands(text: str) -> list[tuple[str, ...]]:
    """The commands of a table above."""
    lines = text.replace("{p}", PREFIX).replace("{{", "{").replace("}}", "}").splitlines()
    cells = [cell.split(" ") for line in lines for cell in line.strip().split(" | ")]
    return [tuple(words) for words in cells if words != [""]]


def rules(user: str) -> str:
    """The line of a user."""
    (line,) = [line for line in ACL_FILE.read_text().splitlines() if line.split()[1] == user]
    return line


def granted(user: str) -> set[str]:
    """Every command that a user may call on some key."""
    return set(re.findall(r"\+([a-z_|]+)", rules(user)))


@pytest.fixture(scope="module", params=REAL_KINDS)
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """Each kind of real server with these users."""
    path = write_acl_file(tmp_path_factory.mktemp("acl"))
    with running_server(request.param, "--aclfile", str(path)) as server:
        yield server


def url_of(server: RunningServer, user: str) -> str:
    return server.as_user(user).url


def client_of(server: RunningServer, user: str) -> Redis:
    return Redis.from_url(url_of(server, user), protocol=2)


def denied_objects(server: RunningServer) -> set[str]:
    """What was denied to users since the last call."""
    with server.client() as admin:
        entries = admin.execute_command("ACL LOG")
        admin.execute_command("ACL LOG", "RESET")
    return {str(_text(_field(entry, "object"))) for entry in entries}


def _field(entry: Any, name: str) -> Any:
    if isinstance(entry, dict):
        return entry[name]
    fields = {_text(key): value for key, value in zip(entry[::2], entry[1::2], strict=True)}
    return fields[name]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


TOLERATED = {"client|setinfo", "client", "info", "config|get", "config"}
"""What redis-py and the refresher try, and do without."""


class TestWhatTheCodeNeeds:
    def test_reader_and_client_get_every_answer(
        self, guarded: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        denied_objects(guarded)
        for number, names in enumerate(RUNS):
            write_run(status_dir, names, status=("running", "failed")[number % 2])
        for reader in (READER, CLIENT):
            url = url_of(guarded, WRITER)
            with Rig(
                url, status_dir, f"{namespace}-{reader}", client_url=url_of(guarded, reader)
            ) as rig:
                rig.settle()
                assert_agrees(rig)
                assert rig.cache.meta()["state"] == "ready"
                assert list(rig.cache.changes(wait=0)) == []
                assert rig.cache.problems() == []
                write_run(status_dir, RUNS[0], status="completed")
                rig.settle()
                assert_agrees(rig)
        assert denied_objects(guarded) <= TOLERATED

    def test_client_may_delete_invalidate_and_refresh(
        self, guarded: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        for names in RUNS:
            write_run(status_dir, names)
        denied_objects(guarded)
        with (
            Refresher(
                status_dir, url=url_of(guarded, WRITER), namespace=namespace, poll_interval=0.2
            ),
            JobCache(url_of(guarded, CLIENT), namespace=namespace) as cache,
        ):
            assert cache.delete_job(*RUNS[0])
            assert not cache.delete_job("p", "g", "n", "absent")
            cache.invalidate(*RUNS[1])
            assert cache.refresh(wait=True, timeout=10).state is CacheState.READY
        assert denied_objects(guarded) <= TOLERATED

    def test_a_reader_is_told_that_it_may_not_write(
        self, guarded: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUNS[0])
        with Rig(
            url_of(guarded, WRITER), status_dir, namespace, client_url=url_of(guarded, READER)
        ) as rig:
            rig.settle()
            for call in (rig.cache.delete_job, rig.cache.invalidate):
                with pytest.raises(CacheUnavailable, match="no permissions"):
                    call(*RUNS[0])
            with pytest.raises(CacheUnavailable, match="no permissions"):
                rig.cache.refresh()
            assert names_of(rig.cache.list_all_jobs()) == [RUNS[0]]

    def test_async_client_may_do_the_same(
        self, guarded: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUNS[0])

        async def ask() -> list[Names]:
            async with AsyncJobCache(url_of(guarded, READER), namespace=namespace) as cache:
                return names_of(await cache.list_all_jobs())

        with Rig(url_of(guarded, WRITER), status_dir, namespace) as rig:
            rig.settle()
            assert asyncio.run(ask()) == [RUNS[0]]

    def test_who_may_run_no_scripts_is_told_the_right(
        self, guarded: RunningServer, namespace: str
    ) -> None:
        cache = JobCache(url_of(guarded, PLAIN_READER), namespace=namespace)
        with pytest.raises(CacheUnavailable, match=r"grant this user \+evalsha_ro and \+eval_ro"):
            cache.list_all_jobs()
        cache.close()

    def test_user_may_use_another_database(self, guarded: RunningServer, namespace: str) -> None:
        for user in USERS:
            with Redis.from_url(f"{url_of(guarded, user)}?db=1", protocol=2) as client:
                assert client.ping()
            cache = JobCache(f"{url_of(guarded, user)}?db=1", namespace=namespace)
            assert cache.freshness().state is CacheState.ABSENT
            cache.close()

    def test_programs_run_with_the_users_rights(
        self, guarded: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUNS[0])
        target = ("--namespace", namespace, "--url")
        with Refresher(
            status_dir, url=url_of(guarded, WRITER), namespace=namespace, poll_interval=0.2
        ):
            for user in USERS:
                for words in (["ls"], ["info"], ["get", *RUNS[0]], ["problems"], ["doctor"]):
                    done = run(JOBCACHE, *words, *target, url_of(guarded, user))
                    assert done.returncode == 0, (user, done)
                done = run(
                    REFRESHER,
                    *("check", *target, url_of(guarded, user), "--status-dir", str(status_dir)),
                )
                assert done.returncode == 0, (user, done)
            for user in (CLIENT, WRITER):
                for words in (["refresh"], ["invalidate", *RUNS[0]], ["doctor", "--repair"]):
                    done = run(JOBCACHE, *words, *target, url_of(guarded, user))
                    assert done.returncode == 0, (user, done)
            done = run(REFRESHER, "release", *target, url_of(guarded, WRITER))
            assert done.returncode == 0, done

    @pytest.mark.timeout(300)
    def test_random_edits_agree_under_the_writers_rights(self, guarded: RunningServer) -> None:
        denied_objects(guarded)
        run_state_machine_as_test(
            type("Machine", (TreeMachine,), {"server": guarded.as_user(WRITER)}),
            settings=settings(
                max_examples=4,
                stateful_step_count=10,
                deadline=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        assert denied_objects(guarded) <= TOLERATED


class TestWhatIsDenied:
    @pytest.mark.parametrize("user", USERS)
    def test_command_that_nobody_needs_is_denied(self, guarded: RunningServer, user: str) -> None:
        own = {READER: DENIED_TO_READER, CLIENT: DENIED_TO_CLIENT, WRITER: DENIED_TO_WRITER}[user]
        for command in commands(DENIED_TO_ALL + own):
            with client_of(guarded, user) as client:
                refusal = _refusal(client, *command)
            # Some servers lack a command, or lock it up otherwise.
            elsewise = re.match("unknown (sub)?command|DEBUG command not allowed", str(refusal))
            assert isinstance(refusal, NoPermissionError) or elsewise, (command, refusal)

    @pytest.mark.parametrize("user", USERS)
    def test_command_in_a_script_is_denied_as_well(self, guarded: RunningServer, user: str) -> None:
        verb = "EVAL" if user == WRITER else "EVAL_RO"
        with client_of(guarded, user) as client:
            for command in commands(DENIED_IN_SCRIPTS[user]):
                refusal = _refusal(client, verb, "return redis.call(unpack(ARGV))", 0, *command)
                assert re.match(IN_SCRIPT, str(refusal)), (command, refusal)

    @pytest.mark.parametrize("user", USERS)
    def test_the_file_as_it_is_lets_nobody_in(self, user: str) -> None:
        with running_server(REAL_KINDS[0], "--aclfile", str(ACL_FILE)) as server:
            for password in ("", user, "resetpass", "nopass"):
                with (
                    Redis.from_url(server.url, username=user, password=password) as client,
                    pytest.raises(AuthenticationError),
                ):
                    client.ping()


IN_SCRIPT = (
    "ACL failure in script|The user executing the script can't |This [A-Z][a-z]+ command is not allowed from script|"
    "Write commands are not allowed from read-only scripts"
)


def _refusal(client: Redis, *command: Any) -> RedisError:
    try:
        reply = client.execute_command(*(str(word).encode() for word in command))
    except RedisError as error:
        return error
    raise AssertionError(f"{command} was allowed: {reply!r}")


def test_the_recipe_makes_passwords(tmp_path: Path, namespace: str) -> None:
    (script,) = DOCS["connecting.md"].code("sh")
    script = script.replace("deploy/redis/jobcache.acl", str(ACL_FILE))
    require("openssl")
    subprocess.run(["/bin/sh", "-ec", script], cwd=tmp_path, check=True, timeout=30)
    options = ("--aclfile", str(tmp_path / "users.acl"))
    with running_server(REAL_KINDS[0], *options) as server:
        for user in USERS:
            url = server.url.replace("unix://", f"unix://{user}@")
            secret = tmp_path / f"{user.removeprefix('jobcache-')}.password"
            cache = JobCache(url, namespace=namespace, password_file=str(secret))
            assert cache.freshness().state is CacheState.ABSENT
            cache.close()


class TestTheFile:
    def test_nothing_is_granted_that_the_code_does_not_need(self) -> None:
        mentioned = set(re.findall(r"\w+", " ".join(path.read_text() for path in SOURCES)))
        by_redis_py = {"client|setname", "select"}
        for user in USERS:
            for command in granted(user) - by_redis_py:
                words = command.upper().removesuffix("_RO").split("|")
                assert set(words) <= mentioned, command

    def test_everything_is_granted_that_a_script_calls(self) -> None:
        """Also what the paths of a script that no test takes would call."""
        called = {
            name.lower()
            for path in SOURCES
            if path.suffix == ".lua"
            for name in re.findall(r"redis\.p?call\('(\w+)'", path.read_text())
        }
        assert called <= granted(WRITER)

    def test_the_readers_may_read_alike(self) -> None:
        assert granted(READER) < granted(CLIENT)
        assert granted(CLIENT) < granted(WRITER)

    def test_no_channels_no_categories_no_passwords(self) -> None:
        for user in USERS:
            line = rules(user)
            assert " resetchannels " in line
            assert "+@" not in line
            assert not re.search(r"[><#&]|nopass|allkeys|allcommands", line)
            patterns = re.findall(r"~(\S+)", line)
            assert patterns
            for pattern in patterns:
                assert pattern.startswith("jobcache:{*}:"), pattern
