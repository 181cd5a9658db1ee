"""(d): what the indexes must hold, worked out anew from the hashes and the table of keys in docs/redis.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.faults.oracle.snapshot import Held

NOT_INDEXES = frozenset({b"tombstones"})
UNREADABLE = float("-inf")

Zsets = dict[bytes, dict[bytes, float]]


def index_faults(held: Held) -> list[str]:
    """What is wrong with the indexes and counts; nothing while the cache is being built."""
    if held.meta.get(b"state") not in {b"ready", b"degraded"}:
        return []
    found = {key: zset for key, zset in held.zsets.items() if key not in NOT_INDEXES}
    faults = [*_differences(_expected(held), found)]
    chips = _active_chips(held)
    if int(held.meta.get(b"active_chips", 0)) != chips:
        faults.append(f"active_chips is {held.meta.get(b'active_chips')!r}, not {chips}")
    return faults


def _expected(held: Held) -> Zsets:
    zsets: Zsets = defaultdict(dict)
    for path, fields in held.jobs.items():
        project, group, name, run_id = path.split(b"/")
        status = fields[b"status"]
        started = float(fields.get(b"started_at", UNREADABLE))
        for key in (
            b"jobs",
            b"status:" + status,
            b"project:" + project,
            b"project:" + project + b"/status:" + status,
            b"group:" + group + b"/status:" + status,
            b"project:" + project + b"/group:" + group + b"/status:" + status,
        ):
            zsets[key][path] = started
        zsets[b"runs:" + b"/".join((project, group, name))][run_id] = started
        beat = float(fields.get(b"heartbeat_at", UNREADABLE))
        if status == b"running":
            zsets[b"running"][path] = zsets[b"running:" + project][path] = beat
        else:
            zsets[b"activity:" + status][path] = beat
        zsets[b"projects"][project] = zsets[b"groups:" + project][group] = 0.0
    return dict(zsets)


def _differences(expected: Zsets, found: Zsets) -> Iterator[str]:
    for key in sorted(expected.keys() | found.keys()):
        should, does = expected.get(key, {}), found.get(key, {})
        if dangling := sorted(does.keys() - should.keys()):
            yield f"{key!r} holds {dangling} without a hash that belongs there"
        if missing := sorted(should.keys() - does.keys()):
            yield f"{key!r} lacks {missing}"
        for member in should.keys() & does.keys():
            if should[member] != does[member]:
                yield f"{key!r} scores {member!r} {does[member]}, not {should[member]}"


def _active_chips(held: Held) -> int:
    meta = held.meta
    if b"completed_at" not in meta:
        return 0
    since = float(meta[b"completed_at"]) - float(meta[b"stale_after"])
    return sum(
        int(fields.get(b"chips", 0))
        for fields in held.jobs.values()
        if fields[b"status"] == b"running" and float(fields.get(b"heartbeat_at", 0)) >= since
    )
