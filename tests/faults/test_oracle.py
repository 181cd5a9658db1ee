"""The fault oracle, briefly: a seed on each real server, and rounds worth keeping. ``make soak`` runs it for long."""

from __future__ import annotations

from random import Random

import pytest

from tests.faults.oracle.faults import GAPS, KINDS, Round, plan_round
from tests.faults.oracle.injector import LOST
from tests.faults.oracle.report import failure
from tests.faults.oracle.run import run_rounds, run_seed
from tests.faults.oracle.timing import Timing
from tests.servers import REAL_KINDS

SECONDS = 10.0
CURRENT = [name for name in KINDS if name not in GAPS]

A_STANDBY_S_MEMORY = """
a round of 6.09 s: reader-hold at 0.74 for 1.13 s, die 0.878; stop at 3.37 for 3.78 s, die 0.416; \
delay at 4.43 for 2.61 s, die 0.196; hide-project at 5.37 for 2.29 s, die 0.108
a round of 4.70 s: reader-swallow at 0.42 for 1.94 s, die 0.341; redis-kill at 1.31 for 1.62 s, die 0.250
"""
"""Of seed 511: who led once and leads again showed what it remembered as whole."""
TWO_FAILOVERS = """
a round of 4.00 s: failover at 1.00 for 1.20 s, die 0.450
a round of 4.00 s: failover at 1.00 for 1.50 s, die 0.900; kill at 1.70 for 1.00 s, die 0.400
"""
"""A primary hangs, and comes back; one dies, and the leader just before it. The replica is behind both times."""


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("kind", "seed"), [*zip(REAL_KINDS, (1, 2, 3), strict=True)])
def test_oracle_random_faults_lose_nothing(kind: str, seed: int) -> None:
    result = run_seed(seed, kind, SECONDS, CURRENT)
    assert not result.violations, failure(result, SECONDS, CURRENT)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("kind", "seed", "rounds"),
    [("redis-7.0", 511, A_STANDBY_S_MEMORY), ("valkey-9", 4, TWO_FAILOVERS)],
    ids=["a standby's memory", "two failovers"],
)
def test_oracle_recorded_rounds_lose_nothing(kind: str, seed: int, rounds: str) -> None:
    recorded = Round.parse_all(rounds)
    result = run_rounds(seed, kind, recorded)
    assert not result.violations, failure(result, SECONDS, CURRENT)
    struck = [fault.kind for one in recorded for fault in one.faults]
    for name in struck:
        assert result.counts[f"fault {name}"] or name == "hide-project", f"{name} was skipped"
    assert result.counts[LOST] == struck.count("failover")


def test_oracle_rounds_are_read_as_they_are_written() -> None:
    rng = Random(1)
    drawn = [plan_round(rng, CURRENT, 6.0, Timing()) for _ in range(50)]
    assert {fault.kind for one in drawn for fault in one.faults} == set(CURRENT)
    text = "\n".join(f"   1.234 {one}\n   2.345 all is quiet" for one in drawn)
    assert [str(one) for one in Round.parse_all(text)] == [str(one) for one in drawn]
    with pytest.raises(ValueError, match="no fault"):
        Round.parse_all("a round of 1.00 s: sabotage at 0.10 for 1.00 s, die 0.100")
