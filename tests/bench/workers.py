"""Memory of a web worker beyond that of an idle one."""

from __future__ import annotations

from tests.bench.peer import Peer
from tests.bench.queries import all_queries
from tests.bench.rows import Row
from tests.bench.setting import Setting
from tests.bench.tree import MeasuredTree

REPEATS = 3


def measure(setting: Setting, baseline_rss: int) -> Row:
    """The row, given the memory of a worker with the baseline after its first full scan.

    What an idle worker does not need counts too, so the Redis client and jobcache itself do.
    """
    setting.say("memory of a worker")
    with Peer("idle") as idle, setting.client() as client:
        ground = idle.ask("rss")
        imported = client.ask("rss")
        ours = after_queries(client, setting.tree)
    return Row(
        *("memory", "worker memory", "bytes", baseline_rss - ground, ours - ground),
        note=f"{(imported - ground) / 1e6:.1f} MB of it by importing and connecting",
        detail={"idle_rss": ground, "imported_rss": imported},
    )


def after_queries(client: Peer, tree: MeasuredTree) -> int:
    """Bytes that a new client's process holds once it has asked everything."""
    for _ in range(REPEATS):
        for query in all_queries(tree):
            client.ask("size", method=query.method, arguments=query.arguments)
    held: int = client.ask("rss")
    return held
