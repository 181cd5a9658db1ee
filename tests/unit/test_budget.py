"""How much time an exchange has left."""

from __future__ import annotations

import math
import time

import pytest

from jobcache import ConfigError
from jobcache.transport.budget import Budget, check_deadline


def test_budget_left_is_never_nothing() -> None:
    assert Budget().left() == math.inf
    assert 50 < Budget.of(60).left() <= 60
    with pytest.raises(TimeoutError):
        Budget(time.monotonic()).left()


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_check_deadline_that_cannot_be_kept_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="deadline="):
        check_deadline(seconds)
    assert check_deadline(0.5) == 0.5
