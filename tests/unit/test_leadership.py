"""Every phase with every event: where it leads, or that it must not happen."""

from __future__ import annotations

from itertools import product

import pytest

from jobcache_refresher.leadership import Event, Phase, TransitionError, after_event

ALLOWED = {
    (Phase.STANDBY, Event.LEASE_WON): Phase.ADOPTING,
    (Phase.STANDBY, Event.FENCED): Phase.STANDBY,
    (Phase.STANDBY, Event.HUNG): Phase.STALLED,
    (Phase.ADOPTING, Event.EPOCH_WHOLE): Phase.LEADING,
    (Phase.ADOPTING, Event.EPOCH_LOST): Phase.REBUILDING,
    (Phase.ADOPTING, Event.FENCED): Phase.STANDBY,
    (Phase.ADOPTING, Event.HUNG): Phase.STALLED,
    (Phase.REBUILDING, Event.EPOCH_LOST): Phase.REBUILDING,
    (Phase.REBUILDING, Event.REBUILT): Phase.LEADING,
    (Phase.REBUILDING, Event.FENCED): Phase.STANDBY,
    (Phase.REBUILDING, Event.HUNG): Phase.STALLED,
    (Phase.LEADING, Event.EPOCH_LOST): Phase.REBUILDING,
    (Phase.LEADING, Event.FENCED): Phase.STANDBY,
    (Phase.LEADING, Event.HUNG): Phase.STALLED,
    (Phase.STALLED, Event.ANSWERED): Phase.STANDBY,
}


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, Event)))
def test_leadership_event_in_phase_leads_where_the_table_says(phase: Phase, event: Event) -> None:
    expected = ALLOWED.get((phase, event))
    if expected is None:
        with pytest.raises(TransitionError, match=f"{event.name} in phase {phase.name}"):
            after_event(phase, event)
    else:
        assert after_event(phase, event) is expected


def test_leadership_every_phase_can_be_reached_and_left() -> None:
    reached = {after for (phase, _), after in ALLOWED.items() if after is not phase}
    left = {phase for (phase, _), after in ALLOWED.items() if after is not phase}
    assert reached == left == set(Phase)
