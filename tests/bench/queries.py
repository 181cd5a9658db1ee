"""Every query: how long it takes cold and warm, and what it asks of the server."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from tests.bench.measure import Timing, alternate, calls_for_sample
from tests.bench.peer import Peer
from tests.bench.rows import Row, timing_row
from tests.bench.setting import Setting
from tests.bench.tree import MeasuredTree

MODES = ("warm", "unchanged", "cold")
"""How much of an answer a client knows: its jobs but for what was written meanwhile, all of it, or nothing."""
WARM_SAMPLES = 10
"""Of a warm client in a round, so that switching between processes weighs little."""
COLD_SAMPLES = 3
PINGS = 20


class Query(NamedTuple):
    """A call that both caches have."""

    name: str
    method: str
    arguments: dict[str, Any]


def all_queries(tree: MeasuredTree) -> list[Query]:
    """The queries of design.md §8, with the names that match most."""
    project, group, name = tree.project, tree.group, tree.name
    filters: dict[str, dict[str, Any]] = {
        "limit=100": {},
        "project": {"project": project},
        "group": {"group": group},
        "status": {"status": "failed"},
        "project, status": {"project": project, "status": "failed"},
        "project, group": {"project": project, "group": group},
    }
    job = {"project": project, "group": group, "name": name}
    return [
        *(
            Query(f"list_all_jobs({shown})", "list_all_jobs", {**chosen, "limit": 100})
            for shown, chosen in filters.items()
        ),
        Query("get_dashboard_stats", "get_dashboard_stats", {}),
        Query("list_projects", "list_projects", {}),
        Query("get_recent_jobs", "get_recent_jobs", {}),
        Query("get_job_runs", "get_job_runs", job),
        Query("get_running_jobs", "get_running_jobs", {}),
        Query("get_job", "get_job", {**job, "run_id": tree.run_id}),
    ]


def measure(setting: Setting, baseline: Peer, client: Peer) -> list[Row]:
    """Time every query; nothing else may use the server meanwhile."""
    rows: list[Row] = []
    for query in all_queries(setting.tree):
        setting.say(query.name)
        note = _compare_sizes(query, baseline, client)
        timings = _time(setting, query, baseline, client)
        rows += [
            timing_row("queries", f"{query.name}, {mode}", timings["baseline"], timings[mode], note)
            for mode in MODES
        ]
    rows.append(_beside_ping(setting, client))
    return rows


def _time(setting: Setting, query: Query, baseline: Peer, client: Peer) -> dict[str, Timing]:
    call = {"method": query.method, "arguments": query.arguments}
    (seconds,) = baseline.ask("time", **call, repeat=1, number=1)
    contestants: dict[str, Callable[[], list[float]]] = {
        "baseline": partial(
            baseline.ask, "time", **call, repeat=1, number=calls_for_sample(seconds)
        ),
        "cold": partial(cold_samples, client, call),
        # The client goes on from the cold call, so that it is warm by now.
        "warm": partial(client.ask, "time_after_writes", **call, repeat=WARM_SAMPLES),
        "unchanged": partial(client.ask, "time", **call, repeat=WARM_SAMPLES, number=1),
    }
    return alternate(contestants, rounds=setting.effort.rounds, seconds=setting.effort.seconds)


def cold_samples(client: Peer, call: dict[str, Any]) -> list[float]:
    """Samples of a query, in seconds, by clients that are connected and hold nothing yet."""
    samples: list[float] = []
    for _ in range(COLD_SAMPLES):
        client.ask("renew")
        samples += client.ask("time", **call, repeat=1, number=1)
    return samples


def _compare_sizes(query: Query, baseline: Peer, client: Peer) -> str:
    """How many jobs or projects the answer holds; both numbers if they differ."""
    call = {"method": query.method, "arguments": query.arguments}
    ours, theirs = client.ask("size", **call), baseline.ask("size", **call)
    return f"{ours} rows" if ours == theirs else f"ANSWERS DIFFER: {theirs} and {ours} rows"


def _beside_ping(setting: Setting, client: Peer) -> Row:
    get_job = all_queries(setting.tree)[-1]
    call = {"method": get_job.method, "arguments": get_job.arguments}
    timings = alternate(
        {
            "ping": partial(client.ask, "ping", repeat=PINGS),
            "get_job": partial(client.ask, "time", **call, repeat=PINGS, number=1),
        },
        rounds=setting.effort.rounds,
        seconds=setting.effort.seconds,
    )
    return timing_row(
        "queries", "get_job beside PING", timings["ping"], timings["get_job"], "baseline: PING"
    )


def measure_traffic(setting: Setting, client: Peer) -> list[Row]:
    """Count what each query asks of the server and gets back; nothing else may use the server meanwhile."""
    rows = []
    for query in all_queries(setting.tree):
        client.ask("renew")
        for mode in ("cold", "warm", "unchanged"):
            if mode == "warm":
                client.ask("write")
            rows.append(_traffic_row(setting, query, client, mode))
    return rows


def _traffic_row(setting: Setting, query: Query, client: Peer, mode: str) -> Row:
    name = f"bytes sent for {query.name}, {mode}"
    before, start = setting.server.traffic(), setting.server.traffic()
    trips = client.ask("round_trips", method=query.method, arguments=query.arguments)
    end = setting.server.traffic()
    shown = f"{trips} round trip{'s' if trips != 1 else ''}"
    if before is None or start is None or end is None:
        return Row("traffic", name, "bytes", None, None, f"{shown}; the server denies INFO")
    # What asking costs is the same each time.
    commands = (end.commands - start.commands) - (start.commands - before.commands)
    sent = (end.bytes_out - start.bytes_out) - (start.bytes_out - before.bytes_out)
    return Row(
        *("traffic", name, "bytes", None, float(sent)),
        note=f"{shown}, {commands} commands",
        detail={"round_trips": trips, "commands": commands},
    )
