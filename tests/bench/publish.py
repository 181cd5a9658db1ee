"""`python -m tests.bench.publish RESULT`: write the measured tables and the picture of the documentation from a result.

Every number in them comes from that file. A test fails if a page says anything else.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench import compare, plot
from tests.bench.bars import QUERIES
from tests.bench.encodings import DEFAULTS, VARIANTS
from tests.bench.report import quantity, times
from tests.bench.servers import KINDS

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = (REPOSITORY / "docs" / "performance.md", REPOSITORY / "README.md")
"""The pages that hold measured tables between marks."""
RESULT = REPOSITORY / "tests" / "bench" / "results" / "100000-jobs.json"
PICTURE = RESULT.with_name("queries.svg")

_BLOCK = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- bench: end -->)", re.DOTALL)

Rows = Mapping[str, Mapping[str, Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages and the picture; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.publish", description=__doc__)
    parser.add_argument("result", type=Path, nargs="?", default=RESULT)
    options = parser.parse_args(arguments)
    try:
        result = compare.load(options.result)
        pages = {page: rewritten(page.read_text("utf-8"), result) for page in PAGES}
        PICTURE.write_text(plot.draw(result))
        for page, text in pages.items():
            page.write_text(text, "utf-8")
    except (ValueError, OSError) as error:
        print(f"publish: {error}", file=sys.stderr)
        return 2
    return 0


def rewritten(page: str, result: Mapping[str, Any]) -> str:
    """Return the text of a page with the tables of a result between its marks.

    Raises:
        ValueError: a mark names no table, or the result lacks what one needs.
    """
    rows = {row["name"]: row for row in result["rows"]}

    def block(match: re.Match[str]) -> str:
        name = match[2]
        if name not in TABLES:
            raise ValueError(f"there is no table {name!r}")
        try:
            return f"{match[1]}{TABLES[name](result, rows)}{match[3]}"
        except KeyError as lacking:
            raise ValueError(f"the result has no row {lacking}") from None

    return _BLOCK.sub(block, page)


def _setting(result: Mapping[str, Any], _: Rows) -> str:
    return (
        f"{result['jobs']:,} jobs of which {result['running']:,} run, {result['cores']} cores, "
        f"Python {result['python']}, {_server(result['server'])}, {result['date']}:\n"
    )


def _summary(result: Mapping[str, Any], rows: Rows) -> str:
    cold, warm = (rows[f"list_all_jobs(limit=100), {mode}"] for mode in ("cold", "warm"))
    memory = rows["worker memory"]
    return (
        f"With {result['jobs']:,} jobs, a list of 100 jobs takes {_amount(cold, 'project')} in a worker that has just "
        f"started and\n{_amount(warm, 'project')} later, instead of {_amount(warm, 'baseline')}. A worker needs "
        f"{_amount(memory, 'project')} of memory for the jobs instead of {_amount(memory, 'baseline')}.\n"
    )


def _queries(result: Mapping[str, Any], rows: Rows) -> str:
    scale = result.get("scale")
    grown = "" if scale is None else f"{scale[1] / scale[0]:.0f} times the jobs"
    table = [
        [
            *(f"`{query}`", _amount(rows[f"{query}, warm"], "baseline")),
            *(_amount(rows[f"{query}, {mode}"], "project") for mode in _MODES),
            *(_judged(rows[f"{query}, {mode}"]) for mode in _MODES),
            *([] if scale is None else [_grown(rows[f"scale: {query}, warm"])]),
        ]
        for query in QUERIES
    ]
    heads = [
        "",
        "per-process",
        *_MODES,
        *(f"ratio, {mode}" for mode in _MODES),
        *([grown] if grown else []),
    ]
    ping = rows["get_job beside PING"]
    share = ping["project"] / ping["baseline"]
    met = "" if ping["met"] else " (**missed**: the target is 1.5x)"
    missed = sum(rows[f"{query}, {mode}"]["met"] is False for query in QUERIES for mode in _MODES)
    return (
        _table(heads, table)
        + f"\nA PING takes {_amount(ping, 'baseline')} on the same connection; "
        + f"`get_job` takes {share:.2f}x of that{met}.\n"
        + f"A ratio that misses its target is bold: {missed or 'none'} in this run.\n"
    )


def _rest(_: Mapping[str, Any], rows: Rows) -> str:
    names = {
        "first scan to ready": "first scan to ready",
        "restart on a warm Redis": "restart on a warm Redis",
        "refresher CPU, nothing changes": "CPU of refreshing, nothing changes",
        "refresher CPU, running jobs beat": "CPU of refreshing, running jobs send heartbeats",
        "worker memory": "memory of a worker, beyond an idle one",
        "Redis memory per job": "memory of Redis per job",
        "longest command, first publication": "longest time that Redis is busy with one step, publishing",
        "longest command, queries": "longest time that Redis is busy with one step, queries",
    }
    table = [
        [shown, _amount(row, "baseline"), _amount(row, "project"), _with_bar(row)]
        for name, shown in names.items()
        for row in [rows[name]]
    ]
    return _table(["", "per-process", "jobcache", "ratio, target"], table)


def _app(_: Mapping[str, Any], rows: Rows) -> str:
    names = {
        "requests a second, nobody refreshes": "requests per second, nobody scans",
        "p99, nobody refreshes": "99th percentile, nobody scans",
        "requests a second, while it refreshes": "requests per second, everybody scans as usual",
        "p99, while it refreshes": "99th percentile, everybody scans as usual",
        "memory of all workers": "memory of the workers",
    }
    table = [
        [shown, _amount(row, "baseline"), _amount(row, "project"), times(row["ratio"])]
        for name, shown in names.items()
        for row in [rows[f"app: {name}"]]
    ]
    at_rest = rows["app: requests a second, nobody refreshes"]["detail"]
    before, now = at_rest["baseline_medians"], at_rest["project_medians"]
    table += [
        [
            f"median, nobody scans: {name}",
            *(quantity(one, "seconds") for one in (before[name], now[name])),
            times(before[name] / now[name]),
        ]
        for name in before
        if name in now
    ]
    return _table(["", "per-process", "jobcache", "ratio"], table)


def _scale(result: Mapping[str, Any], rows: Rows) -> str:
    small, large = (f"{jobs:,} jobs" for jobs in result["scale"])
    names = {
        "publication, a job": "publishing one job, without a filesystem",
        "Redis memory per job": "memory of Redis per job",
        "worker memory": "memory of a worker, beyond an idle one",
    }
    table = [
        [shown, _amount(row, "baseline"), _amount(row, "project")]
        for name, shown in names.items()
        for row in [rows[f"scale: {name}"]]
    ]
    for name in ("publication", "heartbeats of all that run", "queries", "dropping it all"):
        row = rows[f"scale: longest command, {name}"]
        few = row["detail"].get("small")
        table.append(
            [
                f"longest time that Redis is busy with one step, {name}",
                quantity(few, "seconds"),
                _amount(row, "project") + ("" if row["met"] is not False else " (over 10 ms)"),
            ]
        )
    return _table(["", small, large], table)


def _memory(_: Mapping[str, Any], rows: Rows) -> str:
    details = {
        kind: rows[f"encodings: {shown}, {DEFAULTS}"]["detail"] for kind, shown in KINDS.items()
    }
    lines: list[tuple[str, Callable[[Mapping[str, Any]], float]]] = [
        ("hash of the job, without its key", lambda one: one["by_kind"]["job"] - one["key_name"]),
        ("key of the hash", lambda one: one["key_name"]),
        *((f"`{shown}`", _weight(kinds)) for shown, kinds in _INDEXES.items()),
        ("`changes`, `meta` and other lists", _weight(_OTHERS)),
    ]
    table = [
        [shown, *(f"{weight(one):,.0f}" for one in details.values())] for shown, weight in lines
    ]
    wholes = {
        variant: [rows[f"encodings: {shown}, {variant}"] for shown in KINDS.values()]
        for variant in VARIANTS
    }
    named = [sum(one["by_kind"].values()) for one in details.values()]
    table.append(
        [
            "hash tables of the keys, and rounding by the allocator",
            *(
                f"{row['project'] - size:,.0f}"
                for row, size in zip(wholes[DEFAULTS], named, strict=True)
            ),
        ]
    )
    table.append(["**in all**", *(f"**{row['project']:,.0f}**" for row in wholes[DEFAULTS])])
    settings = []
    for variant, several in wholes.items():
        options = " ".join(VARIANTS[variant]).replace("--", "")
        shown = f"`{options}`" if options else "defaults"
        settings.append([shown, *(_with_times(row) for row in several)])
    servers = [*KINDS.values()]
    return (
        _table(["bytes per job", *servers], table)
        + "\nWith other settings of the server: bytes per job, time for a page, time for a heartbeat:\n\n"
        + _table(["", *servers], settings)
    )


_MODES = ("cold", "warm", "unchanged")

_INDEXES = {
    "jobs": ("jobs",),
    "status:<s>": ("status",),
    "project:<p>": ("project",),
    "project:<p>/status:<s>": ("project/status",),
    "group:<g>/status:<s>": ("group/status",),
    "project:<p>/group:<g>/status:<s>": ("project/group/status",),
    "runs:<p>/<g>/<n>": ("runs",),
    "running": ("running",),
}
_OTHERS = ("changes", "meta", "lease", "groups", "projects", "requests", "tombstones")

TABLES: Mapping[str, Callable[[Mapping[str, Any], Rows], str]] = {
    "setting": _setting,
    "summary": _summary,
    "queries": _queries,
    "rest": _rest,
    "scale": _scale,
    "app": _app,
    "memory": _memory,
}
"""What may stand between marks in a page."""


def _weight(kinds: Sequence[str]) -> Callable[[Mapping[str, Any]], float]:
    return lambda one: sum(one["by_kind"].get(kind, 0.0) for kind in kinds)


def _with_times(row: Mapping[str, Any]) -> str:
    taken = row["detail"]["server_seconds"]
    page, beat = (f"{taken[name] * 1e6:,.0f} us" for name in ("cold page", "heartbeat"))
    return f"{row['project']:,.0f}, {page}, {beat}"


def _server(name: str) -> str:
    kind, _, version = name.partition(" ")
    return f"{kind.capitalize()} {version}"


def _amount(row: Mapping[str, Any], side: str) -> str:
    return quantity(row[side], row["unit"])


def _judged(row: Mapping[str, Any]) -> str:
    """A ratio, marked where it falls short of its bar."""
    shown = times(row["ratio"])
    if row["met"] is not False:
        return shown
    return f"**{shown}** of {row['bar']['text'].removesuffix(' faster')}"


def _with_bar(row: Mapping[str, Any]) -> str:
    if row["bar"] is None:
        return times(row["ratio"])
    ratio = f"{times(row['ratio'])}, " if row["ratio"] else ""
    held = {True: "", False: ": **missed**", None: ""}[row["met"]]
    return f"{ratio}{row['bar']['text']}{held}"


def _grown(row: Mapping[str, Any]) -> str:
    return f"{row['project'] / row['baseline']:.2f}x the time"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
