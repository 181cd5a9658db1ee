"""Settings of the clients that cannot be used."""

from __future__ import annotations

import math
from typing import Any

import pytest

from jobcache import AsyncJobCache, ConfigError, JobCache

URL = "redis://localhost:1/0"


@pytest.mark.parametrize("kind", [JobCache, AsyncJobCache])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deadline", 0.0),
        ("deadline", -1.0),
        ("deadline", math.inf),
        ("deadline", math.nan),
        ("max_connections", 0),
        ("stale_if_error", -1.0),
        ("stale_if_error", math.nan),
        ("stale_if_error", math.inf),
    ],
)
def test_client_setting_out_of_range_is_a_config_error(
    kind: type[Any], name: str, value: float
) -> None:
    with pytest.raises(ConfigError, match=f"{name}={value}"):
        kind(URL, **{name: value})


@pytest.mark.parametrize("kind", [JobCache, AsyncJobCache])
def test_pool_size_may_stand_in_the_url(kind: type[Any]) -> None:
    with pytest.raises(ConfigError, match="max_connections=0"):
        kind(f"{URL}?max_connections=0")
    kind(f"{URL}?max_connections=2&timeout=3&socket_timeout=1")
