"""``python -m tests.faults.oracle``: one seed, several, or as many as fit into some minutes.

The exit code is 0 if every assertion held. A seed that failed is printed with what happened in it, and with the command
that plays its schedule again.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import NoReturn

from tests.faults.oracle.faults import GAPS, KINDS, Round
from tests.faults.oracle.report import failure, summary
from tests.faults.oracle.run import Result, run_rounds, run_seed
from tests.servers import REAL_KINDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    options = _parser().parse_args(arguments)
    kinds = _kinds(options)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # what was started is ended
    began = time.monotonic()
    results: list[Result] = []
    for seed, server in _seeds(options):
        if options.play is None:
            result = run_seed(seed, server, options.seconds, kinds)
        else:
            result = run_rounds(seed, server, Round.parse_all(options.play.read_text()))
        results.append(result)
        print(_line(result), flush=True)
        if result.violations:
            print(failure(result, options.seconds, kinds), flush=True)
            if not options.keep_going:
                break
    print(summary(results, time.monotonic() - began))
    return int(any(result.violations for result in results))


def _leave(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.oracle", description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, help="this seed alone")
    which.add_argument("--seeds", metavar="A-B", help="these seeds, on the servers in turn")
    which.add_argument("--minutes", type=float, help="new seeds for so long")
    parser.add_argument("--seconds", type=float, default=20, help="of each seed (20)")
    parser.add_argument("--server", choices=REAL_KINDS, help="this server alone")
    parser.add_argument("--without", default="", metavar="KINDS", help="leave these faults out")
    parser.add_argument(
        "--with", dest="only_gaps", default="", metavar="KINDS", help="these gaps as well, or all"
    )
    parser.add_argument("--only", default="", metavar="KINDS", help="no other faults than these")
    parser.add_argument(
        "--play", type=Path, metavar="FILE", help="the rounds that it tells of, as failures do"
    )
    parser.add_argument("--keep-going", action="store_true", help="after a seed that failed")
    return parser


def _kinds(options: argparse.Namespace) -> list[str]:
    named = {one: _split(getattr(options, one)) for one in ("without", "only_gaps", "only")}
    if unknown := set().union(*named.values()) - KINDS.keys() - {"all"}:
        sys.exit(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    if named["only"]:
        return [kind for kind in KINDS if kind in named["only"]]
    gaps = set() if "all" in named["only_gaps"] else GAPS - named["only_gaps"]
    return [kind for kind in KINDS if kind not in gaps | named["without"]]


def _split(names: str) -> set[str]:
    return {name for name in names.split(",") if name}


def _seeds(options: argparse.Namespace) -> Iterator[tuple[int, str]]:
    servers = cycle([options.server] if options.server else REAL_KINDS)
    if options.minutes is not None:
        ends = time.monotonic() + options.minutes * 60
        while time.monotonic() < ends:
            yield secrets.randbelow(10**9), next(servers)
    elif options.seeds is not None:
        first, _, last = options.seeds.partition("-")
        for seed in range(int(first), int(last or first) + 1):
            yield seed, next(servers)
    else:
        yield secrets.randbelow(10**9) if options.seed is None else options.seed, next(servers)


def _line(result: Result) -> str:
    counts = Counter(result.counts)
    faults = sum(count for what, count in counts.items() if what.startswith("fault "))
    verdict = "FAILED" if result.violations else "ok"
    recovered_in = " ".join(f"{seconds:.1f}" for seconds in result.recovered_in)
    return f"seed {result.seed} on {result.kind}: {verdict}, {faults} faults, recovered in {recovered_in} s"


if __name__ == "__main__":
    sys.exit(main())
