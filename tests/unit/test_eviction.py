"""Whether the server may have dropped keys of the cache, as far as it tells."""

from __future__ import annotations

from typing import Any, cast

import pytest

from jobcache_refresher.audit.eviction import Evictions
from jobcache_refresher.audit.inspection import Inspector


class Told:
    """An inspector that is told INFO and CONFIG; None for what is denied."""

    def __init__(self, *infos: dict[str, str] | None, policy: str | None = None) -> None:
        self.infos = list(infos)
        self.policy = policy
        self.asked: list[str] = []

    def info(self) -> dict[str, str] | None:
        self.asked.append("info")
        return self.infos.pop(0) if self.infos else None

    def configured_policy(self) -> str | None:
        self.asked.append("config")
        return self.policy


def watch(told: Told) -> Evictions:
    return Evictions(cast(Inspector, cast(Any, told)))


def info(policy: str, evicted: int) -> dict[str, str]:
    return {"maxmemory_policy": policy, "evicted_keys": str(evicted)}


@pytest.mark.parametrize(
    ("policy", "counts", "looks"),
    [
        ("allkeys-lru", [0, 0, 5, 5, 6], [False, False, True, False, True]),
        ("allkeys-lfu", [5, 5], [True, False]),
        ("allkeys-random", [5, 0], [True, True]),  # the server was restarted
        ("volatile-lru", [5, 6], [False, False]),
        ("noeviction", [5, 6], [False, False]),
    ],
)
def test_evictions_look_tells_whether_keys_of_the_cache_may_be_gone(
    policy: str, counts: list[int], looks: list[bool]
) -> None:
    evictions = watch(Told(*(info(policy, count) for count in counts)))
    assert [evictions.look() for _ in counts] == looks
    assert (policy in evictions.warning) is policy.startswith("allkeys-")


@pytest.mark.parametrize(
    ("policy", "warns"), [("allkeys-lru", True), ("noeviction", False), (None, False)]
)
def test_evictions_server_that_denies_info_is_asked_for_its_policy_once(
    policy: str | None, warns: bool
) -> None:
    told = Told(policy=policy)
    evictions = watch(told)
    assert [evictions.look() for _ in range(3)] == [False] * 3
    assert told.asked == ["info", "config"]
    assert bool(evictions.warning) is warns


def test_evictions_policy_that_was_mended_warns_no_more() -> None:
    evictions = watch(Told(info("allkeys-lru", 0), info("noeviction", 9)))
    evictions.look()
    assert evictions.warning
    assert not evictions.look()
    assert evictions.warning == ""
