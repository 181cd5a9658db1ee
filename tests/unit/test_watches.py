"""Which directories count as watched after each thing that can happen to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobcache_refresher.triggers.watches import Watches

PLACES = {1: b"", 2: b"p", 3: b"p/g", 4: b"p/g/n", 5: b"q"}


def watched(watches: Watches) -> dict[int, bytes | None]:
    return {descriptor: watches.path_of(descriptor) for descriptor in sorted(watches.descriptors)}


def nothing(watches: Any) -> None:
    pass


def ended(watches: Any) -> None:
    watches.drop(4)


def unknown_ended(watches: Any) -> None:
    watches.drop(99)


def taken(watches: Any) -> None:
    assert sorted(watches.take(b"p")) == [2, 3, 4]


def unknown_taken(watches: Any) -> None:
    assert watches.take(b"elsewhere") == []


def moved(watches: Any) -> None:
    watches.add(3, b"q/g")
    watches.add(4, b"q/g/n")


def replaced(watches: Any) -> None:
    watches.add(6, b"p/g")
    watches.drop(3)


@pytest.mark.parametrize(
    ("happens", "left"),
    [
        (nothing, PLACES),
        (ended, {1: b"", 2: b"p", 3: b"p/g", 5: b"q"}),
        (unknown_ended, PLACES),
        (taken, {1: b"", 5: b"q"}),
        (unknown_taken, PLACES),
        (moved, {1: b"", 2: b"p", 3: b"q/g", 4: b"q/g/n", 5: b"q"}),
        (replaced, {1: b"", 2: b"p", 4: b"p/g/n", 5: b"q", 6: b"p/g"}),
    ],
)
def test_watched_after(happens: Callable[[Any], None], left: dict[int, bytes]) -> None:
    watches: Any = Watches()
    for descriptor, path in PLACES.items():
        watches.add(descriptor, path)
    happens(watches)
    assert watched(watches) == left
    assert len(watches) == len(left)


def test_take_after_a_move_takes_what_is_there_now() -> None:
    watches: Any = Watches()
    for descriptor, path in PLACES.items():
        watches.add(descriptor, path)
    moved(watches)
    assert watches.take(b"p") == [2]
    assert sorted(watches.take(b"q")) == [3, 4, 5]


def test_contains_the_paths_that_are_watched_now() -> None:
    watches: Any = Watches()
    for descriptor, path in PLACES.items():
        watches.add(descriptor, path)
    moved(watches)
    assert b"q/g" in watches
    assert b"p/g" not in watches


def test_has_below_only_what_is_watched() -> None:
    watches: Any = Watches()
    for descriptor, path in PLACES.items():
        watches.add(descriptor, path)
    assert watches.has_below(b"p/g")
    assert not watches.has_below(b"p/g/n")
    watches.drop(4)
    assert not watches.has_below(b"p/g")
