"""When an equal state proves equal content."""

import pytest

from jobcache_refresher.scan.racy import is_racy, tick

NOW = 1_700_000_000.25
NEVER = float("-inf")
FRACTION = 123_456_789


def at(seconds: float) -> int:
    """A time in nanoseconds, as a filesystem with fine ticks keeps it."""
    return int((NOW + seconds) * 1e9) + 1


@pytest.mark.parametrize(
    ("times", "known_for", "not_before", "expected"),
    [
        ((at(-1), at(-1)), 0.0, NEVER, True),
        ((at(-3), at(-3)), 0.0, NEVER, False),
        ((at(-3600), at(-1)), 0.0, NEVER, True),
        ((at(+1), at(+1)), 0.0, NEVER, True),
        ((at(+3600), at(+3600)), 0.0, NEVER, True),
        ((at(+3600), at(+3600)), 1.9, NEVER, True),
        ((at(+3600), at(+3600)), 2.1, NEVER, False),
        ((at(-1), at(-1)), 2.1, NEVER, False),
        ((at(-3600), at(-3600)), 0.0, NOW - 10, True),
        ((at(-3600), at(-3600)), 2.1, NOW - 10, False),
        ((at(-3600), at(-3600)), 0.0, NEVER, False),
        ((at(-5), at(-5)), 0.0, NOW - 10, False),
        ((0, 0), 0.0, NEVER, False),
    ],
    ids=[
        "a moment ago",
        "some time ago",
        "times set back a moment ago",
        "a clock that is a little ahead",
        "the future, just met",
        "the future, met a moment ago",
        "the future, met some time ago",
        "the same for longer than the window, whatever the clocks say",
        "before another state was seen: a clock that is behind",
        "the same, met some time ago",
        "long ago, and no other state was seen",
        "after another state was seen",
        "1970",
    ],
)
def test_is_racy(
    times: tuple[int, int], known_for: float, not_before: float, expected: bool
) -> None:
    racy = is_racy(times, seen_at=NOW, known_for=known_for, not_before=not_before, settle=2.0)
    assert racy is expected


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ((FRACTION, FRACTION), 0.0),
        ((1_000_000_000, FRACTION), 0.0),
        ((FRACTION, 2_000_000_000), 0.0),
        ((1_000_000_000, 1_000_000_000), 1.0),
        ((2_000_000_000, 1_000_000_000), 1.0),
        ((2_000_000_000, 4_000_000_000), 2.0),
    ],
)
def test_tick_of_whole_and_even_seconds(times: tuple[int, int], seconds: float) -> None:
    assert tick(times) == seconds


@pytest.mark.parametrize(("ago", "expected"), [(2.9, True), (4.3, False)])
def test_is_racy_for_longer_where_times_are_even_seconds(ago: float, expected: bool) -> None:
    times = (1_700_000_000 * 10**9,) * 2
    seen_at = 1_700_000_000 + ago
    assert is_racy(times, seen_at=seen_at, known_for=0, not_before=NEVER, settle=2.0) is expected
