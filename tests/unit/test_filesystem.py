"""What a filesystem's directory times and inode numbers are worth, after what was seen of them."""

from __future__ import annotations

import pytest

from jobcache_refresher.scan.filesystem import NO_NUMBER, SEVERAL, Filesystem, Times
from jobcache_refresher.scan.tree import Child

T1, T2 = (1_000, 1_000), (2_000, 2_000)


def children(*inodes: int) -> dict[bytes, Child]:
    return {b"%d" % number: Child(inode, None) for number, inode in enumerate(inodes)}


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ([], Times.UNPROVEN),
        ([T1, T1, T1], Times.UNPROVEN),
        ([T1, T2], Times.DIFFER),
        ([T1, (1_000, 2_000)], Times.DIFFER),
        ([(0, 0), T1, T2], Times.WORTHLESS),
        ([(0, 1_000), T1], Times.DIFFER),
    ],
)
def test_times_that_were_shown(shown: list[tuple[int, int]], expected: Times) -> None:
    filesystem = Filesystem()
    for times in shown:
        filesystem.meet_times(times)
    assert filesystem.times is expected
    assert filesystem.times_prove is (expected is Times.DIFFER)


class TestSuspicion:
    def suspected(self) -> Filesystem:
        filesystem = Filesystem()
        filesystem.meet_times(T1)
        filesystem.meet_times(T2)
        filesystem.suspect(b"p/g/n", 100.0)
        return filesystem

    @pytest.mark.parametrize(
        ("path", "now", "expected"),
        [
            (b"p/g/n", 102.1, Times.WORTHLESS),
            (b"p/g/n", 101.9, Times.DIFFER),
            (b"p/g/other", 900.0, Times.DIFFER),
        ],
        ids=["confirmed", "too early to tell", "another directory"],
    )
    def test_is_judged_when_the_same_times_are_shown_again(
        self, path: bytes, now: float, expected: Times
    ) -> None:
        filesystem = self.suspected()
        filesystem.judge(path, now, settle=2.0)
        assert filesystem.times is expected

    def test_is_over_when_the_times_change(self) -> None:
        filesystem = self.suspected()
        filesystem.clear(b"p/g/n")
        filesystem.judge(b"p/g/n", 900.0, settle=2.0)
        assert filesystem.times is Times.DIFFER

    def test_counts_from_when_it_arose(self) -> None:
        filesystem = self.suspected()
        filesystem.suspect(b"p/g/n", 102.0)
        filesystem.judge(b"p/g/n", 102.1, settle=2.0)
        assert filesystem.times is Times.WORTHLESS


@pytest.mark.parametrize(
    ("listings", "prove"),
    [
        ([(b"a", (1, 2)), (b"b", (3,))] * SEVERAL, True),
        ([(b"a", (1, 1))], False),
        ([(b"a", (NO_NUMBER,))], False),
        ([(b"%d" % number, (7,)) for number in range(SEVERAL + 1)], False),
        ([(b"a", (7,)), (b"b", (7,)), *[(b"b", (7,))] * SEVERAL], True),
        ([(b"a", ()), (b"b", (7,))], True),
    ],
    ids=["differ", "twice in one", "none", "the same in many", "moved once", "an empty listing"],
)
def test_numbers_of_listings(listings: list[tuple[bytes, tuple[int, ...]]], prove: bool) -> None:
    filesystem = Filesystem()
    for path, inodes in listings:
        filesystem.meet_numbers(path, children(*inodes))
    assert filesystem.entry_numbers.prove is prove


def test_inodes_that_change_alone_prove_nothing_after_several() -> None:
    filesystem = Filesystem()
    for number in range(SEVERAL):
        assert filesystem.meet_again(Child(number, T1), Child(number + 1, T1))
    assert not filesystem.meet_again(Child(0, T1), Child(1, T1))
    assert filesystem.meet_again(Child(0, T1), Child(0, T2))


def test_inodes_that_change_with_the_times_are_not_doubted() -> None:
    filesystem = Filesystem()
    for number in range(2 * SEVERAL):
        assert filesystem.meet_again(Child(number, T1), Child(number + 1, T2))
    assert filesystem.inodes.prove
