"""What a person reads: of a seed that failed, and of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from tests.faults.oracle.faults import GAPS, KINDS
from tests.faults.oracle.run import Result


def failure(result: Result, seconds: float, kinds: Collection[str]) -> str:
    """What happened, what should not have, and how to see it again."""
    return "\n".join(
        [
            *result.events,
            result.logs,
            f"seed {result.seed} on {result.kind} failed:",
            *result.violations,
            f"again: {command(result, seconds, kinds)}",
        ]
    )


def command(result: Result, seconds: float, kinds: Collection[str]) -> str:
    """The command line that plays the same schedule."""
    words = ["python -m tests.faults.oracle", f"--seed {result.seed}", f"--server {result.kind}"]
    if result.is_recorded:
        return " ".join([*words, "--play FILE-WITH-THIS-OUTPUT"])
    words.append(f"--seconds {seconds:g}")
    if set(kinds) != KINDS.keys() - GAPS:
        words.append(f"--only {','.join(kinds)}")
    return " ".join(words)


def summary(results: Sequence[Result], took: float) -> str:
    """Totals over seeds."""
    counts: Counter[str] = Counter()
    for result in results:
        counts.update(result.counts)
    recovered_in = sorted(seconds for result in results for seconds in result.recovered_in)
    failed = [result.seed for result in results if result.violations]
    lines = [f"{what}: {count}" for what, count in sorted(counts.items())]
    if recovered_in:
        lines.append(
            f"recovered in: median {recovered_in[len(recovered_in) // 2]:.2f} s, worst {recovered_in[-1]:.2f} s"
        )
    lines.append(f"{len(results)} seeds in {took:.0f} s, failed: {failed or 'none'}")
    return "\n".join(lines)
