"""A Redis URL, taken apart: one reading or none, and no password in a message."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobcache import AsyncJobCache, ConfigError, JobCache
from jobcache.transport.endpoint import Endpoint
from jobcache.transport.route import Address
from jobcache.transport.url import RedisUrl, Topology, mask_password

FORMS = (
    "redis://{}:{}@redis.example:6379/0",
    "rediss+sentinel://{}:{}@s1:26379,s2:26379/mymaster",
    "redis+cluster://{}:{}@redis.example",
    "unix://{}:{}@/run/redis.sock",
)


@pytest.mark.parametrize(
    ("url", "hosts", "path"),
    [
        ("redis://", [("localhost", 6379)], ()),
        ("redis://:1", [("localhost", 1)], ()),
        ("REDIS://Host.Example.:70/3", [("host.example.", 70)], ("3",)),
        ("redis://[::1]:7/1", [("::1", 7)], ("1",)),
        ("redis://[fe80::1%25eth0]/", [("fe80::1%eth0", 6379)], ()),
        ("redis://rédis.example", [("xn--rdis-bpa.example", 6379)], ()),
        ("redis://under_score", [("under_score", 6379)], ()),
        ("redis://127.1:6/0?db=2", [("127.1", 6)], ("0",)),
        ("redis+sentinel://a,b:1/svc/2", [("a", 26379), ("b", 1)], ("svc", "2")),
        ("rediss+cluster://a,[::1]:9", [("a", 6379), ("::1", 9)], ()),
    ],
)
def test_read_names_hosts_and_path(
    url: str, hosts: list[tuple[str, int]], path: tuple[str, ...]
) -> None:
    parts = RedisUrl.read(url)
    assert [*parts.hosts] == [Address(*host) for host in hosts]
    assert parts.path == path


def test_read_of_a_socket_decodes_its_path() -> None:
    parts = RedisUrl.read("unix://u:p%40@/run/a%20b%3F.sock?db=1")
    assert (parts.socket, parts.hosts, parts.username, parts.password) == (
        "/run/a b?.sock",
        (),
        "u",
        "p@",
    )
    assert RedisUrl.read("unix:///run/a@b.sock").socket == "/run/a@b.sock"


def test_read_of_an_option_that_stands_twice_takes_the_first_and_keeps_a_plus() -> None:
    assert RedisUrl.read("redis://h?db=1&db=2&client_name=a+b").query == {
        "db": "1",
        "client_name": "a+b",
    }


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://x",
        "redis:/x",
        "unix+sentinel:///x",
        "redis+bogus://h",
        "unix://host/path",
        "redis://h:port",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:\u0661",
        "redis://redis..svc:1",
        "redis://.redis",
        f"redis://{'a' * 64}.example",
        "redis://a b",
        "redis://${HOST}",
        "redis://a,b",
        "redis+cluster://a,,b",
        "redis://h/0#part",
        "redis://[::1",
        "redis+sentinel://a:26379",
        "redis://h/zero",
        "redis://h/0/1",
        "redis+cluster://h/1",
        "redis+sentinel://h/svc/db",
    ],
)
@pytest.mark.parametrize("client", [JobCache, AsyncJobCache])
def test_a_url_without_a_reading_is_refused(client: type[JobCache], url: str) -> None:
    with pytest.raises(ConfigError, match="url="):
        client(url)


def test_a_url_that_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="url must be text, not int"):
        JobCache(6379)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS)
@settings(deadline=None)
@given(password=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=10))
def test_a_raw_password_works_or_is_refused_and_never_shown(form: str, password: str) -> None:
    url = form.format("user", password.replace("%", "%25"))
    pieces = [password[at : at + 6] for at in range(len(password) - 5)]
    innocent = form.format("user", "")
    try:
        found = Endpoint.find(url, {})
    except ConfigError as refused:
        said = str(refused)
        innocent += (
            "percent-encode '/', '?', '#' and '@' in the user and in the password, behind host"
        )
    else:
        said = found.shown + repr(found)
        known = Endpoint.find(innocent, {})
        assert found.seeds == known.seeds
        assert found.server_options == known.server_options
        assert found.credentials is not None
        assert found.credentials.get_credentials() == ("user", password)
    assert not [piece for piece in pieces if piece in said and piece not in innocent + "*" * 9]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:secret@h:1/0", "redis://u:***@h:1/0"),
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://[::1]:1/0", "redis://[::1]:1/0"),
        ("redis+cluster://a:1,b:2", "redis+cluster://a:1,b:2"),
        ("redis://:secret", "redis://***"),
        ("redis://u:secret/0", "redis://***"),
        ("redis://h?password=secret&db=1", "redis://h?password=***"),
        ("redis://h?sentinel_password=se&cret", "redis://h?sentinel_password=***"),
        ("redis://u:s://e@cret@h", "redis:***@h"),
    ],
)
def test_mask_shows_no_password(url: str, shown: str) -> None:
    assert mask_password(url) == shown


def test_topology_is_of_the_scheme() -> None:
    assert RedisUrl.read("valkeys+sentinel://h/s").topology is Topology.SENTINEL
    assert RedisUrl.read("valkeys+sentinel://h/s").encrypted
    assert not RedisUrl.read("unix:///s").encrypted
