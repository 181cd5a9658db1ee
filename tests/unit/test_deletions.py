"""Which missing jobs may be deleted, as a table."""

from __future__ import annotations

import pytest

from jobcache_refresher.deletions import DeletionPolicy

PUBLISHED = [b"p/g/n/r%03d" % number for number in range(1000)]


def decide(
    policy: DeletionPolicy,
    gone: int,
    vanishing: int | None = None,
    *,
    saw_all: bool = True,
    released: bool = False,
    published: int = 1000,
) -> tuple[int, int]:
    """How many jobs are deleted, and how many deletions are held."""
    decision = policy.decide(
        PUBLISHED[:gone],
        vanishing=gone if vanishing is None else vanishing,
        published=set(PUBLISHED[:published]),
        saw_all=saw_all,
        released=released,
    )
    return len(decision.delete), decision.held


@pytest.mark.parametrize(
    ("published", "gone", "vanishing", "expected"),
    [
        (1000, 0, 0, (0, 0)),
        (1000, 1, 1, (1, 0)),
        (1000, 200, 200, (200, 0)),  # a fifth is not more than a fifth
        (1000, 201, 201, (0, 201)),
        (1000, 0, 201, (0, 0)),  # missed once only: a hold, but nothing to delete yet
        (60, 50, 50, (50, 0)),  # few jobs may always go
        (60, 51, 51, (0, 51)),
    ],
)
def test_deletions_share_of_jobs_vanishes_held_above_bounds(
    published: int, gone: int, vanishing: int, expected: tuple[int, int]
) -> None:
    policy = DeletionPolicy(0.2, 50)
    assert decide(policy, gone, vanishing, published=published) == expected


def test_deletions_part_comes_back_hold_goes_on() -> None:
    policy = DeletionPolicy(0.2, 50)
    assert decide(policy, 300) == (0, 300)
    assert decide(policy, 10) == (0, 10)
    assert decide(policy, 5, saw_all=False) == (0, 5)


def test_deletions_all_come_back_hold_ends() -> None:
    policy = DeletionPolicy(0.2, 50)
    assert decide(policy, 300) == (0, 300)
    assert decide(policy, 0, 0, saw_all=False) == (0, 0)
    assert decide(policy, 1, 1, saw_all=False) == (0, 1)  # hints do not see everything
    assert decide(policy, 0, 0) == (0, 0)
    assert decide(policy, 1) == (1, 0)


def test_deletions_operator_releases_all_deleted() -> None:
    policy = DeletionPolicy(0.2, 50)
    assert decide(policy, 300) == (0, 300)
    assert decide(policy, 300, released=True) == (300, 0)
    assert decide(policy, 1) == (1, 0)


def test_deletions_noticed_in_two_scans_held() -> None:
    policy = DeletionPolicy(0.2, 50)
    assert decide(policy, 0, 201) == (0, 0)
    assert decide(policy, 150, 150) == (0, 150)


def test_deletions_on_hints_wait_for_a_whole_scan_beyond_few() -> None:
    policy = DeletionPolicy(0.2, 50)
    for _ in range(5):
        assert decide(policy, 10, saw_all=False) == (10, 0)
    assert decide(policy, 1, saw_all=False) == (0, 0)
    assert decide(policy, 1) == (1, 0)
    assert decide(policy, 50, saw_all=False) == (50, 0)
