"""Random edits of a tree; after each settling every answer is what a brute-force reading gives."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobcache_refresher.scan.scope import Scope
from tests.contract.compare import assert_agrees
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import STATUSES, WORDS, Names, delete_run, run_dir, write_run

# Few names, so that runs collide in every way; odd ones, so that no encoding goes untried.
PROJECTS = st.sampled_from(
    ["general", "p:1", "p:1/"[:-1] + " ", "\udcff\udcfe", "pro\nject", "-", "ü"]
)
GROUPS = st.sampled_from(["default", "group:x", "status:running", "\udc80"])
JOB_NAMES = st.sampled_from(["n", "n*?[", "{n}"])
RUN_IDS = st.sampled_from(["20260204_094435", "20260204_094435_1234567", "r\udcf0", " "])
NAMES = st.tuples(PROJECTS, GROUPS, JOB_NAMES, RUN_IDS)

NOON = datetime(2026, 11, 1, 12)
STARTS = st.sampled_from(
    [NOON.isoformat(), (NOON + timedelta(microseconds=1)).isoformat(), NOON.isoformat() + "+02:00"]
    + ["", "yesterday", "9999-12-31T23:59:59.999999"]
) | st.builds(lambda hours: (datetime.now() - timedelta(hours=hours)).isoformat(), st.floats(0, 48))
BEATS = st.builds(
    lambda seconds: (datetime.now() - timedelta(seconds=seconds)).isoformat(),
    st.floats(0, 200) | st.floats(400, 10_000),
) | st.sampled_from(["", "never"])
TEXT = st.text(max_size=8)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | TEXT
    | st.sampled_from(["\ud800", "\udcff", 2**70, float("inf")]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=5,
)
DOCUMENTS = st.fixed_dictionaries(
    {
        "project": st.none() | TEXT,
        "start_time": STARTS,
        "last_heartbeat": BEATS,
        "status": st.sampled_from([*STATUSES, *WORDS, "paused", None]),
        "slurm_job_id": st.none() | st.just("1234567"),
        "hardware": st.fixed_dictionaries(
            {
                "chip": st.none() | st.just("h100"),
                "total_chips": st.integers(0, 64),
                "hosts": st.lists(st.just("node0"), max_size=2),
            }
        ),
        "config": st.dictionaries(TEXT, JSON, max_size=3),
    },
    optional={"gpu_count": JSON, "": JSON},
)


class TreeMachine(RuleBasedStateMachine):
    """Edits of a status directory, and refreshes in between."""

    server: RunningServer

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.root = Path(self._directory.name)
        self.runs: dict[Names, dict[str, Any]] = {}
        self.dirty = False

    @initialize(runs=st.dictionaries(NAMES, DOCUMENTS, min_size=2, max_size=5))
    def begin(self, runs: dict[Names, dict[str, Any]]) -> None:
        for names, document in runs.items():
            self.write(names, document)
        self.rig = Rig(self.server.url, self.root, f"m-{uuid4().hex[:12]}")
        self.rig.__enter__()
        self.rig.settle()
        assert_agrees(self.rig)

    @rule(names=NAMES, document=DOCUMENTS)
    def write(self, names: Names, document: dict[str, Any]) -> None:
        write_run(self.root, names, **document)
        self.runs[names] = document
        self.dirty = True

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), status=st.sampled_from(STATUSES))
    def finish(self, data: st.DataObject, status: str) -> None:
        names = data.draw(st.sampled_from(sorted(self.runs)))
        self.write(names, {**self.runs[names], "status": status})

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), target_names=NAMES)
    def move(self, data: st.DataObject, target_names: Names) -> None:
        names = data.draw(st.sampled_from(sorted(self.runs)))
        if target_names in self.runs:
            return
        target = run_dir(self.root, target_names)
        target.parent.mkdir(parents=True, exist_ok=True)
        run_dir(self.root, names).rename(target)
        self.runs[target_names] = self.runs.pop(names)
        self.dirty = True

    @precondition(lambda self: len(self.runs) > 1)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        names = data.draw(st.sampled_from(sorted(self.runs)))
        delete_run(self.root, names)
        del self.runs[names]
        self.dirty = True

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def delete_from_cache(self, data: st.DataObject) -> None:
        names = data.draw(st.sampled_from(sorted(self.runs)))
        self.rig.cache.delete_job(*names)
        assert self.rig.cache.get_job(*names) is None
        self.rig.refresh(Scope.HINTS)
        self.dirty = True

    @rule()
    def poll(self) -> None:
        self.rig.refresh(Scope.POLL)

    @precondition(lambda self: self.dirty)
    @rule()
    def settle(self) -> None:
        self.rig.refresh(Scope.POLL)
        self.rig.refresher.outwait_quarantines()
        self.rig.settle()
        assert_agrees(self.rig)
        self.dirty = False

    @rule()
    def restart(self) -> None:
        """Another refresher takes over what Redis holds."""
        self.rig.__exit__()
        self.rig = Rig(self.server.url, self.root, self.rig.namespace)
        self.rig.__enter__()

    def teardown(self) -> None:
        if hasattr(self, "rig"):
            self.settle()
            self.rig.__exit__()
        self._directory.cleanup()


@pytest.mark.timeout(300)
def test_every_answer_agrees_with_the_tree(server: RunningServer) -> None:
    machine = type("Machine", (TreeMachine,), {"server": server})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=12 if server.is_real else 5,
            stateful_step_count=12,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
