"""Passwords out of files."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.exceptions import AuthenticationError

from jobcache import ConfigError
from jobcache.transport.credentials import PasswordFile


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"secret", "secret"),
        (b"secret\n", "secret"),
        (b"secret\r\n\n", "secret"),
        (b" sec ret ", " sec ret "),
        (b"\xff", "\udcff"),
    ],
)
def test_password_file_is_read_without_the_line_end_behind_it(
    tmp_path: Path, content: bytes, password: str
) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    assert PasswordFile(str(path), "s").get_credentials() == ("default", password)


def test_password_file_is_read_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("old")
    file = PasswordFile(str(path), "s", "user")
    assert file.get_credentials() == ("user", "old")
    path.write_text("new")
    assert file.get_credentials() == ("user", "new")


@pytest.mark.parametrize("content", [None, b"", b"\n"])
def test_password_file_that_holds_none_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    file = PasswordFile(str(path), "THE_SETTING")
    with pytest.raises(ConfigError, match=r"THE_SETTING='.*/password': "):
        file.read()
    with pytest.raises(AuthenticationError, match="THE_SETTING"):
        file.get_credentials()
