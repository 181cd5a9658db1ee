"""Whether an equal state proves equal content. Pure.

What changed a moment ago may change again without another time: within one tick of the filesystem's clock, or while the
filesystem still shows old attributes. Until that is over, a file is read and a directory is listed again. Git calls
such an entry racily clean.
"""

from __future__ import annotations

SECOND_NS = 1_000_000_000


def is_racy(
    times: tuple[int, int],
    *,
    seen_at: float,
    known_for: float,
    not_before: float,
    settle: float,
) -> bool:
    """Whether something changed so recently that an equal state does not yet mean equal content.

    Args:
        times: its mtime and ctime in nanoseconds, by the filesystem's clock.
        seen_at: when it was looked at, in epoch seconds by this machine's clock.
        known_for: seconds since this state was first met; 0 if that is now.
        not_before: epoch seconds at which another state was still seen, so that it changed later; minus infinity if
            that is not known.
        settle: seconds for which the filesystem may show old attributes.
    """
    window = settle + tick(times)
    if known_for > window:
        return False
    changed_at = max(times) / SECOND_NS
    # A change that claims to be older than another state, or younger than now: the clocks differ, or the times were
    # set, so that only time which passes here proves anything.
    return changed_at + settle < not_before or changed_at + window >= seen_at


def tick(times: tuple[int, int]) -> float:
    """Seconds for which the filesystem's clock may have stood still.

    A filesystem that keeps whole seconds shows no fraction in any time; one that keeps every other second, such as FAT,
    shows even ones.
    """
    mtime_ns, ctime_ns = times
    if mtime_ns % SECOND_NS or ctime_ns % SECOND_NS:
        return 0.0
    return 1.0 if mtime_ns // SECOND_NS % 2 or ctime_ns // SECOND_NS % 2 else 2.0
