"""The fault oracle, briefly: one seed on each real server. ``make soak`` runs it for long."""

from __future__ import annotations

import pytest

from tests.faults.oracle.faults import GAPS, KINDS
from tests.faults.oracle.report import failure
from tests.faults.oracle.run import run_seed
from tests.servers import REAL_KINDS

SECONDS = 10.0


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("kind", "seed"), [*zip(REAL_KINDS, (1, 2, 3), strict=True)])
def test_nothing_is_lost_whatever_fails(kind: str, seed: int) -> None:
    kinds = [name for name in KINDS if name not in GAPS]
    result = run_seed(seed, kind, SECONDS, kinds)
    assert not result.violations, failure(result, SECONDS, kinds)
