"""TLS and passwords, against real servers."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobcache import AsyncJobCache, CacheState, CacheUnavailable, ConfigError, JobCache
from jobcache.transport.connect import make_async_pool, make_pool
from jobcache.transport.credentials import PASSWORD_FILE_VARIABLE
from jobcache.transport.endpoint import Endpoint
from jobcache_refresher import LocalJobCache, Refresher
from jobcache_refresher.settings import Settings
from tests.contract.compare import assert_agrees, names_of
from tests.harness import Rig
from tests.programs import JOBCACHE, REFRESHER, assert_one_line, run
from tests.servers import RunningServer, running_server
from tests.tools import HOST, free_port, require
from tests.topologies import Nodes, eventually
from tests.trees import Names, write_run

RUN: Names = ("p", "g", "n", "r")


@dataclass
class Authority:
    """A certificate authority of this test run."""

    directory: Path

    def __post_init__(self) -> None:
        self.certificate = self.directory / "ca.crt"
        key = self.directory / "ca.key"
        self._openssl("req", "-x509", *NEW_KEY, "-keyout", key, "-out", self.certificate, *SUBJECT)

    def issue(self, name: str, alternative: str) -> tuple[Path, Path]:
        """A certificate and its key."""
        certificate, key, request = (
            self.directory / f"{name}.{kind}" for kind in ("crt", "key", "csr")
        )
        self._openssl("req", *NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={alternative}\n")
        signer = ("-CA", self.certificate, "-CAkey", self.directory / "ca.key", "-CAcreateserial")
        self._openssl(
            *("x509", "-req", "-days", "2", "-in", request, "-out", certificate),
            *("-extfile", extensions, *signer),
        )
        return certificate, key

    def _openssl(self, *words: str | Path) -> None:
        command = [require("openssl"), *map(str, words)]
        subprocess.run(command, check=True, capture_output=True, timeout=30)


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
SUBJECT = ("-days", "2", "-subj", "/CN=jobcache test authority")


@dataclass
class Encrypted:
    """A server that talks TLS alone, and asks clients for a certificate."""

    authority: Authority
    port: int
    client: tuple[Path, Path]

    def url(
        self, changes: Mapping[str, Path | None] = {}, *, host: str = HOST, scheme: str = "rediss"
    ) -> str:
        files = {
            "ssl_ca_certs": self.authority.certificate,
            "ssl_certfile": self.client[0],
            "ssl_keyfile": self.client[1],
            **changes,
        }
        query = "&".join(f"{name}={path}" for name, path in files.items() if path)
        return f"{scheme}://{host}:{self.port}?{query}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def encrypted(authority: Authority) -> Iterator[Encrypted]:
    """A Cluster of one node, so that it serves all forms of URL but Sentinel's."""
    certificate, key = authority.issue("server", f"IP:{HOST}")
    port = free_port()
    with ExitStack() as stack:
        node = Nodes(stack).start(
            *("--tls-port", str(port), "--tls-auth-clients", "yes", "--tls-cluster", "yes"),
            *("--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
            *("--tls-ca-cert-file", str(authority.certificate), "--save", ""),
            *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
        )
        with node.client() as admin:
            admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            eventually(lambda: "cluster_state:ok" in _info(admin.execute_command("CLUSTER INFO")))
        yield Encrypted(authority, port, authority.issue("client", "DNS:client"))


def _info(reply: object) -> str:
    if isinstance(reply, dict):
        return "".join(f"{name}:{value}\n" for name, value in reply.items())
    assert isinstance(reply, bytes)
    return reply.decode()


class TestTls:
    @pytest.mark.parametrize("scheme", ["rediss", "valkeys", "rediss+cluster"])
    def test_tls_client_gets_every_answer(
        self, encrypted: Encrypted, status_dir: Path, namespace: str, scheme: str
    ) -> None:
        write_run(status_dir, RUN)
        url = encrypted.url(scheme=scheme)
        with Rig(url, status_dir, namespace) as rig:
            rig.settle()
            assert_agrees(rig)

            async def ask() -> list[Names]:
                async with AsyncJobCache(url, namespace=namespace) as cache:
                    return names_of(await cache.list_all_jobs())

            assert asyncio.run(ask()) == [RUN]

    def test_tls_sentinel_with_a_password_of_its_own_is_asked(
        self, authority: Authority, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN)
        certificate, key = authority.issue("node", f"IP:{HOST}")
        tls = (
            *("--tls-auth-clients", "no", "--tls-replication", "yes"),
            *("--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
            *("--tls-ca-cert-file", str(authority.certificate)),
        )
        ports = free_port(), free_port()
        with ExitStack() as stack:
            nodes = Nodes(stack)
            nodes.start("--tls-port", str(ports[0]), "--requirepass", "data", *tls, password="data")
            nodes.start(
                *("--tls-port", str(ports[1]), "--requirepass", "guard", *tls),
                mode="--sentinel",
                password="guard",
                config=f"sentinel monitor jobs {HOST} {ports[0]} 1\nsentinel auth-pass jobs data\n",
            )
            host = f"rediss+sentinel://:data@{HOST}:{ports[1]}/jobs"
            url = f"{host}?ssl_ca_certs={authority.certificate}&sentinel_password="
            with Rig(f"{url}guard", status_dir, namespace) as rig:
                rig.settle()
                assert_agrees(rig)

            async def ask(secret: str) -> None:
                async with AsyncJobCache(url + secret, namespace=namespace) as cache:
                    assert names_of(await cache.list_all_jobs()) == [RUN]

            asyncio.run(ask("guard"))
            with pytest.raises(CacheUnavailable, match="no node found") as failed:
                asyncio.run(ask("wr0ng"))
            assert "wr0ng" not in str(failed.value)

    def test_tls_refresher_and_programs_work(
        self, encrypted: Encrypted, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN)
        url = encrypted.url()
        with Refresher(status_dir, url=url, namespace=namespace):
            done = run(JOBCACHE, "--url", url, "--namespace", namespace, "ls")
            assert done.returncode == 0, done
            assert "r" in done.stdout

    @pytest.mark.parametrize(
        ("host", "changes", "why"),
        [
            (HOST, {"ssl_ca_certs": None}, "certificate verify failed"),
            ("localhost", {}, "certificate verify failed"),
            (HOST, {"ssl_certfile": None, "ssl_keyfile": None}, None),
        ],
        ids=["unknown authority", "another host's certificate", "no client certificate"],
    )
    def test_tls_server_that_is_not_trusted_is_refused(
        self, encrypted: Encrypted, host: str, changes: dict[str, None], why: str | None
    ) -> None:
        url = encrypted.url(changes, host=host)
        with pytest.raises(CacheUnavailable, match=why):
            JobCache(url).freshness()

        async def ask() -> None:
            await AsyncJobCache(url).freshness()

        with pytest.raises(CacheUnavailable, match=why):
            asyncio.run(ask())

    def test_tls_server_asked_without_tls_is_unavailable(self, encrypted: Encrypted) -> None:
        with pytest.raises(CacheUnavailable):
            JobCache(f"redis://{HOST}:{encrypted.port}").freshness()

    @pytest.mark.parametrize("name", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
    def test_tls_file_that_is_missing_is_named(self, encrypted: Encrypted, name: str) -> None:
        absent = Path("/nonexistent/file.pem")
        for scheme in ("rediss", "rediss+cluster"):
            with pytest.raises(ConfigError) as refused:
                JobCache(encrypted.url({name: absent}, scheme=scheme))
            assert f"{name}='{absent}': No such file" in str(refused.value)

    def test_tls_options_need_tls(self, encrypted: Encrypted) -> None:
        with pytest.raises(ConfigError, match="ssl_ca_certs needs rediss://"):
            JobCache(encrypted.url(scheme="redis"))


USER = "someone"


@pytest.fixture(scope="module")
def locked() -> Iterator[RunningServer]:
    """A server with a user of its own."""
    with running_server("redis-7.0") as server:
        yield server


@pytest.fixture
def password_file(locked: RunningServer, tmp_path: Path) -> Path:
    """A file with the password of the user."""
    set_password(locked, "first-secret")
    path = tmp_path / "password"
    path.write_text("first-secret\n")
    return path


def set_password(server: RunningServer, password: str) -> None:
    """Change the user's password, and end its connections."""
    with server.client() as admin:
        rules = ("on", "resetpass", f">{password}", "~*", "&*", "+@all")
        admin.execute_command("ACL SETUSER", USER, *rules)
        admin.execute_command("CLIENT", "KILL", "USER", USER)


def url_of(server: RunningServer, user: str = f"{USER}@") -> str:
    return server.url.replace("unix://", f"unix://{user}")


class TestPasswordFile:
    def test_password_file_that_is_rotated_is_read_anew(
        self, locked: RunningServer, password_file: Path
    ) -> None:
        cache = JobCache(url_of(locked), password_file=str(password_file))
        assert cache.freshness().state is CacheState.ABSENT

        async def ask() -> None:
            async_cache = AsyncJobCache(url_of(locked), password_file=str(password_file))
            assert (await async_cache.freshness()).state is CacheState.ABSENT
            rotate("second-secret")
            assert (await async_cache.freshness()).state is CacheState.ABSENT
            await async_cache.stop()

        def rotate(password: str) -> None:
            password_file.write_text(password)
            set_password(locked, password)

        asyncio.run(ask())
        assert cache.freshness().state is CacheState.ABSENT
        set_password(locked, "third-secret")
        with pytest.raises(CacheUnavailable) as failed:
            cache.freshness()
        assert "second" not in str(failed.value)
        password_file.write_text("third-secret\n")
        assert cache.freshness().state is CacheState.ABSENT
        password_file.unlink()
        set_password(locked, "third-secret")
        with pytest.raises(CacheUnavailable) as failed:
            cache.freshness()
        assert f"password_file='{password_file}': No such file" in str(failed.value)
        password_file.write_text("third-secret\n")
        assert cache.freshness().state is CacheState.ABSENT
        cache.close()

    def test_password_file_may_come_from_the_environment(
        self, locked: RunningServer, password_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("JOBCACHE_REDIS_URL", url_of(locked))
        monkeypatch.setenv(PASSWORD_FILE_VARIABLE, str(password_file))
        cache = JobCache()
        assert cache.freshness().state is CacheState.ABSENT
        cache.close()
        password_file.unlink()
        for kind in (JobCache, AsyncJobCache):
            with pytest.raises(ConfigError) as refused:
                kind()
            assert (
                str(refused.value)
                == f"{PASSWORD_FILE_VARIABLE}='{password_file}': No such file or directory"
            )

    def test_a_password_in_the_url_counts(self, locked: RunningServer, password_file: Path) -> None:
        password_file.write_text("wrong")
        url = url_of(locked, f"{USER}:first-secret@")
        cache = JobCache(url, password_file=str(password_file))
        assert cache.freshness().state is CacheState.ABSENT
        cache.close()

    @pytest.mark.parametrize("content", [b"", b"\n"])
    def test_password_file_that_is_empty_is_named(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "password"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"password_file='.*/password': the file is empty"):
            JobCache("redis://h", password_file=str(path))

    def test_password_file_serves_programs(
        self, locked: RunningServer, password_file: Path, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, RUN)
        url = url_of(locked)
        secret = ("--password-file", str(password_file))
        where = ("--url", url, "--namespace", namespace)
        scan = ("--status-dir", str(status_dir))
        done = run(REFRESHER, "once", *where, *secret, *scan)
        assert (done.returncode, done.stdout) == (0, "1 jobs\n"), done
        assert run(REFRESHER, "check", *where, *secret, *scan).returncode == 0
        assert run(REFRESHER, "release", *where, *secret).returncode == 0
        for words in (("ls",), ("info", "--json")):
            assert run(JOBCACHE, *where, *secret, *words).returncode == 0
            assert run(JOBCACHE, *words, *where, *secret).returncode == 0
        variables = {PASSWORD_FILE_VARIABLE: str(password_file), "JOBCACHE_REDIS_URL": url}
        assert run(JOBCACHE, "--namespace", namespace, "ls", env=variables).returncode == 0
        done = run(REFRESHER, "once", "--namespace", namespace, *scan, env=variables)
        assert done.returncode == 0
        password_file.unlink()
        missing = f"={str(password_file)!r}: No such file"
        for program, command in ((REFRESHER, ("once", *scan)), (JOBCACHE, ("ls",))):
            name = "jobcache" if program is JOBCACHE else "jobcache-refresher"
            setting = "password_file" if program is JOBCACHE else "--password-file"
            done = run(program, *command, *where, *secret)
            assert_one_line(done, name, setting + missing, code=2)
            done = run(program, *command, env=variables)
            assert_one_line(done, name, PASSWORD_FILE_VARIABLE + missing, code=2)

    def test_password_file_is_not_asked_of_an_embedded_server(
        self, status_dir: Path, password_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file in the environment is meant for the Redis of production."""
        monkeypatch.setenv(PASSWORD_FILE_VARIABLE, str(password_file))
        write_run(status_dir, RUN)
        with LocalJobCache(status_dir) as cache:
            assert names_of(cache.list_all_jobs()) == [RUN]


SECRETS = [
    "redis://u:s3cret@h:1/0",
    "redis://:s3cret@h",
    "rediss://u:s3cret@h?ssl_password=s3cret",
    "redis://h?password=s3cret&username=u",
    "redis+sentinel://u:s3cret@h,i/jobs?sentinel_password=s3cret",
    "valkey+cluster://u:s3cret@h:1,i:2",
    "unix://u:s3cret@/x.sock",
]


@pytest.mark.parametrize("url", SECRETS)
def test_a_password_is_never_shown(url: str) -> None:
    endpoint = Endpoint.find(url)

    async def show() -> str:
        other = make_async_pool(endpoint, size=1)
        return repr((other, other.make_connection()))

    cache = JobCache(url, deadline=0.1)
    settings = Settings.create(status_dir="/status", url=url)
    own = make_pool(endpoint, size=1)
    shown = [endpoint, own, own.make_connection(), cache]
    shown += [asyncio.run(show()), settings]
    text = repr(shown) + endpoint.shown + str(settings)
    with pytest.raises(CacheUnavailable) as failed:
        cache.freshness()
    assert "s3cret" not in text + repr(failed.value) + str(failed.value)


def test_a_password_is_not_shown_by_a_refused_connection(locked: RunningServer) -> None:
    for user in ("nobody:s3cret@", ":s3cret@"):
        with pytest.raises(CacheUnavailable) as failed:
            JobCache(url_of(locked, user)).freshness()
        assert "s3cret" not in str(failed.value)
