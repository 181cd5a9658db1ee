"""What refreshing costs once everything is known."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

from jobcache import JobCache
from tests.bench.measure import summarize
from tests.bench.peer import Peer
from tests.bench.rows import Row
from tests.bench.setting import Setting

CYCLES = 6
"""Polls that are measured, one of them a relist: as the defaults (10 s, 60 s) have it."""
BEAT_EVERY = 3
"""Polls in which every running job beats once: 30 s to 10 s."""
BASELINE_SCANS = 3
LOOK_EVERY = 1 / 50
"""Of a poll interval, between two looks at whether a scan has completed."""


def measure(setting: Setting, baseline: Peer, full_cpu: float) -> list[Row]:
    """Shares of a core, without changes and with running jobs that beat.

    `full_cpu` is the processor time of the baseline's full scan, which takes the place of one in `CYCLES`
    incremental ones.
    """
    interval = setting.effort.poll_interval
    rows = []
    for name, beat in (
        ("refresher CPU, nothing changes", lambda cycle: None),
        (
            "refresher CPU, running jobs beat",
            lambda cycle: setting.tree.beat(cycle % BEAT_EVERY, BEAT_EVERY),
        ),
    ):
        setting.say(f"{name}: {CYCLES * interval:g} s")
        incremental = _baseline_scans(baseline, beat)
        theirs = full_cpu + (CYCLES - 1) * incremental
        cycles = _refresher_cycles(setting, beat)
        rows.append(
            Row(
                *("steady", name, "share of a core"),
                theirs / (CYCLES * interval),
                sum(cycles) / (CYCLES * interval),
                note=f"poll {summarize(cycles).median * 1e3:.0f} ms, dearest {max(cycles) * 1e3:.0f} ms, "
                f"baseline's incremental scan {incremental * 1e3:.0f} ms",
                detail={"cycles_cpu": cycles, "baseline_incremental_cpu": incremental},
            )
        )
    return rows


def _baseline_scans(baseline: Peer, beat: Callable[[int], None]) -> float:
    used = []
    for cycle in range(BASELINE_SCANS):
        beat(cycle)
        used.append(baseline.ask("scan", kind="incremental")["cpu"])
    return summarize(used).median


def _refresher_cycles(setting: Setting, beat: Callable[[int], None]) -> list[float]:
    """Processor seconds of the refresher from one completed scan to the next."""
    interval = setting.effort.poll_interval
    with (
        setting.refresher(poll_interval=interval, relist_interval=CYCLES * interval) as refresher,
        JobCache(setting.url, namespace=setting.namespace, deadline=10.0) as cache,
    ):
        refresher.ask("open")
        # The scan after the first one reads again what changed just before it.
        _await_scan(cache, interval)
        used = [refresher.ask("cpu")]
        for cycle in range(CYCLES):
            beat(cycle)
            _await_scan(cache, interval)
            used.append(refresher.ask("cpu"))
        refresher.ask("close")
    return [after - before for before, after in pairwise(used)]


def _await_scan(cache: JobCache, interval: float) -> None:
    last = cache.freshness().completed_at
    while cache.freshness().completed_at == last:
        time.sleep(interval * LOOK_EVERY)
