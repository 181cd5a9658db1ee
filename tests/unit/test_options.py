"""Options of a Redis URL: honoured, ignored or refused by name."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from jobcache import AsyncJobCache, ConfigError, JobCache
from jobcache.transport.endpoint import Endpoint
from jobcache.transport.options import IGNORED, OPTIONS

ROOT = Path(__file__).parents[2]


def options_of(url: str) -> dict[str, Any]:
    plain = Endpoint.find(url.partition("?")[0], {}).server_options
    return {
        name: value
        for name, value in Endpoint.find(url, {}).server_options.items()
        if plain.get(name) != value
    }


@pytest.mark.parametrize(
    ("url", "honoured"),
    [
        ("redis://h/1?db=2", {"db": 2}),
        (
            "redis://h?client_name=web&max_connections=3",
            {"client_name": "web", "max_connections": 3},
        ),
        ("rediss://h?ssl_cert_reqs=CERT_REQUIRED", {"ssl_cert_reqs": "required"}),
        (
            "rediss://h?ssl_cert_reqs=CERT_NONE",
            {"ssl_cert_reqs": "none", "ssl_check_hostname": False},
        ),
        (
            "rediss+sentinel://h/s?ssl_cert_reqs=None&ssl_check_hostname=false",
            {"ssl_cert_reqs": "none", "ssl_check_hostname": False},
        ),
        ("rediss://h?ssl_check_hostname=off", {"ssl_check_hostname": False}),
        ("rediss://h?ssl_min_version=TLSv1_3", {"ssl_min_version": ssl.TLSVersion.TLSv1_3}),
        ("rediss://h?ssl=true", {}),
        ("redis://h?ssl=0", {}),
    ],
)
def test_option_is_honoured(url: str, honoured: dict[str, Any]) -> None:
    assert options_of(url) == honoured
    AsyncJobCache(url)


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_option_of_other_programs_is_ignored(name: str) -> None:
    assert options_of(f"redis://h?{name}=whatever") == {}


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://h?bogus=1", "'bogus'"),
        ("redis://h?host=other", "'host'"),
        ("redis://h?parser_class=x", "'parser_class'"),
        ("redis://h?sentinel_password=x", "'sentinel_password'"),
        ("redis://h?db=zero", "db='zero'"),
        ("redis://h?db=-1", "db='-1'"),
        ("redis://h?max_connections=0", "max_connections='0'"),
        ("redis://h?client_name=a b", "client_name='a b'"),
        ("redis://h?ssl=true", "rediss://"),
        ("rediss://h?ssl=false", "redis://"),
        ("redis://h?ssl_cert_reqs=none", "ssl_cert_reqs needs rediss://"),
        ("unix:///s?ssl_check_hostname=false", "ssl_check_hostname needs rediss://"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs='maybe'"),
        ("rediss://h?ssl_cert_reqs=none&ssl_check_hostname=true", "ssl_check_hostname needs"),
        ("rediss://h?ssl_ca_certs=/nowhere", "ssl_ca_certs='/nowhere': No such file"),
        ("rediss://h?ssl_ca_certs=%00", "ssl_ca_certs"),
        ("rediss://h?ssl_ca_path=/nowhere", "ssl_ca_path='/nowhere'"),
        ("rediss://h?ssl_ca_data=x", "ssl_ca_data"),
        ("rediss://h?ssl_ciphers=bogus", "ssl_ciphers"),
        ("rediss://h?ssl_min_version=SSLv3", "ssl_min_version='SSLv3'"),
        ("rediss://h?ssl_validate_ocsp=true", "'ssl_validate_ocsp'"),
        (f"rediss://h?ssl_keyfile={__file__}", "ssl_keyfile needs ssl_certfile"),
        (f"rediss://h?ssl_certfile={__file__}", "ssl_certfile"),
    ],
)
@pytest.mark.parametrize("client", [JobCache, AsyncJobCache])
def test_option_that_cannot_be_honoured_is_refused_by_name(
    client: type[JobCache], url: str, named: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        client(url)
    assert named in str(refused.value)


def test_every_option_is_in_the_docs() -> None:
    page = (ROOT / "docs/connecting.md").read_text()
    assert [name for name in OPTIONS if f"`{name}`" not in page] == []
