"""From nothing to answers: first scan, restart, and what the server held by then."""

from __future__ import annotations

from dataclasses import replace

from tests.bench.measure import summarize
from tests.bench.peer import Peer
from tests.bench.rows import Row, timing_row
from tests.bench.server import SlowCommand
from tests.bench.setting import Setting

SECTION = "start-up"


def measure(setting: Setting, baseline: Peer, first_full: dict[str, float]) -> list[Row]:
    """Full scans of the baseline, first scans and restarts of the refresher, in turn. Leaves the cache published.

    `first_full` is the baseline's scan that went before.
    """
    full, first, again = [first_full], [], []
    grown: int | None = None
    for turn in range(setting.effort.scans):
        setting.say(f"first scan and restart {turn + 1}/{setting.effort.scans}")
        if turn:
            full.append(baseline.ask("scan", kind="full"))
        setting.server.drop(setting.prefix)
        before = setting.server.used_memory()
        first.append(_open(setting))
        after = setting.server.used_memory()
        if before is not None and after is not None:
            grown = after - before
        again.append(_open(setting))
    return [
        _row("first scan to ready", full, first),
        _row("restart on a warm Redis", full, again),
        *memory_rows(setting, grown),
    ]


def _open(setting: Setting) -> dict[str, float]:
    with setting.refresher() as refresher:
        ready: dict[str, float] = refresher.ask("open")
        refresher.ask("close")
    return ready


def _row(name: str, baseline: list[dict[str, float]], project: list[dict[str, float]]) -> Row:
    before, now = (summarize([one["seconds"] for one in side]) for side in (baseline, project))
    cpu = [summarize([one["cpu"] for one in side]).median for side in (baseline, project)]
    row = timing_row(SECTION, name, before, now, f"CPU: {cpu[0]:.2f} s and {cpu[1]:.2f} s")
    return replace(row, detail={**row.detail, "baseline_cpu": cpu[0], "project_cpu": cpu[1]})


def memory_rows(setting: Setting, grown: int | None) -> list[Row]:
    """What a published job costs the server, as a whole and by kind of key."""
    jobs = setting.tree.jobs
    weights = setting.server.weigh(setting.prefix)
    a_job = {kind: size / jobs for kind, size in sorted((weights or {}).items())}
    hashes = a_job.get("job")
    others = None if hashes is None else sum(a_job.values()) - hashes
    whole = None if grown is None else grown / jobs
    note = "" if whole is not None else "the server denies INFO"
    kinds = ", ".join(f"{kind} {size:.0f}" for kind, size in a_job.items() if size >= 10)
    return [
        Row("memory", "Redis memory per job", "bytes", None, whole, note, {"by_kind": a_job}),
        Row("memory", "Redis memory per job, hashes", "bytes", None, hashes),
        Row("memory", "Redis memory per job, indexes and the rest", "bytes", None, others, kinds),
    ]


def slow_row(name: str, slowest: SlowCommand | None) -> Row:
    """The row of the longest command of some time."""
    if slowest is None:
        return Row("server", name, "seconds", None, None, "none was logged, or the log is denied")
    note = f"{slowest.command}; {slowest.blocks} longer than 10 ms"
    return Row("server", name, "seconds", None, slowest.seconds, note)
