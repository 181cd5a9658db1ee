"""Settings: where values come from, and what is said of those that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobcache.errors import ConfigError
from jobcache_refresher import Refresher, Settings

URL = "redis://127.0.0.1:1"


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_default() -> None:
    environ = {
        "JOBCACHE_STATUS_DIR": "/from/variable",
        "JOBCACHE_POLL_INTERVAL": "3",
        "JOBCACHE_REDIS_URL": URL,
        "JOBCACHE_MODE": "",
    }
    flags = {"poll_interval": "2", "namespace": None}
    settings = Settings.from_environment(flags, environ)
    assert settings.status_dir == "/from/variable"
    assert settings.poll_interval == 2.0
    assert settings.url == URL
    assert (settings.namespace, settings.mode) == ("default", "polling")


def test_every_setting_has_a_variable_and_a_description() -> None:
    variables = Settings.environment_names()
    assert set(variables) == set(Settings.model_fields)
    assert len(set(variables.values())) == len(variables)
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert variables[name].startswith("JOBCACHE_")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("poll_interval", "0"),
        ("poll_interval", "3601"),
        ("poll_interval", "nan"),
        ("relist_interval", "soon"),
        ("settle", "-1"),
        ("stale_after", "inf"),
        ("lease_ttl", "1e9"),
        ("scan_threads", "0"),
        ("scan_threads", "1.5"),
        ("max_metadata_bytes", "0"),
        ("hold_fraction", "1.1"),
        ("hold_minimum", "-1"),
        ("mode", "inotify"),
        ("log_level", "loud"),
        ("namespace", "a b"),
        ("namespace", ""),
        ("namespace", "n" * 65),
        ("timezone", "Mars/Base"),
        ("timezone", "../etc/passwd"),
        ("status_words", "paused"),
        ("status_words", "paused=idle"),
        ("status_words", "running=failed"),
        ("status_dir", ""),
        ("url", "http://host"),
    ],
)
def test_a_bad_value_is_named_with_its_source(name: str, value: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    good = {"status_dir": "/status"}
    with pytest.raises(ConfigError) as refused:
        Settings.from_environment({**good, name: value}, {})
    assert str(refused.value).startswith(f"{flag}=")
    assert value in str(refused.value)
    if not value:
        return
    variable = Settings.environment_names()[name]
    with pytest.raises(ConfigError) as refused:
        Settings.from_environment({**good, name: None}, {variable: value})
    assert str(refused.value).startswith(f"{variable}=")
    with pytest.raises(ConfigError) as refused:
        Settings.create(**{**good, name: value})
    assert str(refused.value).startswith(f"{name}=")


def test_a_missing_status_directory_setting_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match="--status-dir or JOBCACHE_STATUS_DIR is not set"):
        Settings.from_environment({}, {})


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="pol_interval"):
        Settings.create(status_dir="/status", pol_interval=1)


@pytest.mark.parametrize("source", ["flag", "variable"])
def test_no_password_is_shown(source: str) -> None:
    url = "ftp://user:secret@host/?password=secret"
    flags: dict[str, Any] = {"status_dir": "/status", "url": url if source == "flag" else None}
    with pytest.raises(ConfigError) as refused:
        Settings.from_environment(flags, {"JOBCACHE_REDIS_URL": url})
    assert "secret" not in str(refused.value)
    assert "ftp://user:***@host" in str(refused.value)


def test_the_zone_is_the_named_one_or_this_machines() -> None:
    assert Settings.create(status_dir="/status").zone() is None
    named = Settings.create(status_dir="/status", timezone="Europe/Berlin")
    assert named.zone() == ZoneInfo("Europe/Berlin")


def test_a_status_directory_must_be_one_that_can_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Settings.create(status_dir=str(tmp_path)).check_status_dir()
    file = tmp_path / "file"
    file.touch()
    for path, why in ((tmp_path / "absent", "No such file"), (file, "Not a directory")):
        with pytest.raises(ConfigError, match=f"status_dir='{path}': {why}"):
            Settings.create(status_dir=str(path)).check_status_dir()

    def deny(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.scandir", deny)
    with pytest.raises(ConfigError, match="Permission denied"):
        Settings.create(status_dir=str(tmp_path)).check_status_dir()


def test_a_refresher_takes_settings_whole() -> None:
    settings = Settings.create(status_dir="/status", url=URL, lease_ttl=3, timezone="UTC")
    refresher = Refresher.of(settings)
    assert refresher.settings == settings
    assert (refresher.jobs, refresher.leads) == (0, False)
