"""What a process that is this program's own allows itself."""

from __future__ import annotations

import gc
import resource

YOUNG = 200_000
"""Objects made and kept after which cycles are looked for among them."""


def open_files_limit() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def raise_open_files_limit() -> None:
    """Have as many open files as the system allows without asking."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            return  # what there is has to do


def collect_rarely() -> None:
    """Look for cycles of objects less often.

    What is published is kept for good, and holds no cycles. While 100,000 jobs are read, Python's own thresholds would
    have all of it gone through again and again, for a fifth of the time.
    """
    _, middle, old = gc.get_threshold()
    gc.set_threshold(YOUNG, middle, old)
