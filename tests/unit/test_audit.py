"""What an audit found: how much it is, and when it is more than is repaired in place."""

from __future__ import annotations

import pytest

from jobcache_refresher.audit.audit import FEW, REASONS, Damage


def test_damage_of_nothing_is_none() -> None:
    damage = Damage(deleted={b"p/g/n/r"})
    assert not damage
    assert (damage.count, damage.summary) == (0, "")


@pytest.mark.parametrize("kind", ["job", "orphan", "key", "chips", "ending"])
def test_damage_of_any_kind_is_one_finding(kind: str) -> None:
    damage = Damage()
    match kind:
        case "job":
            damage.add_job(b"p/g/n/r")
        case "orphan":
            damage.add_orphan(b"jobs", b"x")
        case "key":
            damage.add_key(b"foreign", "no key of the cache")
        case "chips":
            damage.chips = True
        case "ending":
            damage.ending = 1
    assert damage
    assert damage.count == 1
    assert not damage.is_vast


def test_damage_found_twice_counts_once() -> None:
    damage = Damage()
    for _ in range(2):
        damage.add_job(b"p/g/n/r")
        damage.add_key(b"foreign", "no key of the cache")
    assert damage.count == len(damage.reasons) == 2


@pytest.mark.parametrize(("count", "is_vast"), [(FEW, False), (FEW + 1, True)])
@pytest.mark.parametrize("kind", ["job", "orphan"])
def test_damage_beyond_a_few_is_vast(kind: str, count: int, is_vast: bool) -> None:
    damage = Damage()
    for number in range(count):
        if kind == "job":
            damage.add_job(b"p/g/n/%d" % number)
        else:
            damage.add_orphan(b"jobs", b"%d" % number)
    assert damage.is_vast is is_vast


@pytest.mark.parametrize(("count", "ends"), [(REASONS, False), (REASONS + 1, True)])
def test_damage_summary_tells_the_first_findings(count: int, ends: bool) -> None:
    damage = Damage()
    for number in range(count):
        damage.add_orphan(b"jobs", b"%d" % number)
    assert damage.summary.startswith("'jobs' holds '0'; ")
    assert damage.summary.count(" holds ") == REASONS
    assert damage.summary.endswith("; ...") is ends
