"""The result as a table for people, and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tests.bench.bars import BARS_HOLD_FOR
from tests.bench.rows import Row, Unit

FORMAT = 1
"""Version of the JSON."""

_SCALES: dict[Unit, tuple[tuple[float, str], ...]] = {
    "seconds": ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")),
    "bytes": ((1e6, "MB"), (1e3, "KB"), (1.0, "B")),
    "share of a core": ((0.01, "%"),),
    "requests a second": ((1.0, "/s"),),
}


def as_json(rows: Sequence[Row], circumstances: Mapping[str, Any]) -> dict[str, Any]:
    """The result as it is written: SI units, unrounded."""
    return {"format": FORMAT, **circumstances, "rows": [_as_json(row) for row in rows]}


def write(result: Mapping[str, Any], path: Path) -> None:
    """Write a result."""
    path.write_text(json.dumps(result, indent=1) + "\n")


def as_table(rows: Sequence[Row], circumstances: Mapping[str, Any]) -> Group:
    """The result, a table a section, in the order in which they were measured."""
    first = {row.section: number for number, row in reversed(list(enumerate(rows)))}
    sections = sorted(rows, key=lambda row: first[row.section])
    return Group(
        *(
            _section(*_heads(section, circumstances), list(some))
            for section, some in groupby(sections, key=lambda row: row.section)
        ),
        Text(f"The bars are meant for {BARS_HOLD_FOR:,} jobs.", end="\n"),
    )


def quantity(value: float | None, unit: Unit) -> str:
    """A quantity as people read it, in the largest unit of which there is at least one."""
    if value is None:
        return "-"
    scale, symbol = next(
        ((scale, symbol) for scale, symbol in _SCALES[unit] if abs(value) >= scale),
        _SCALES[unit][-1],
    )
    return (
        f"{value / scale:.3g} {symbol}" if value / scale < 1000 else f"{value / scale:.0f} {symbol}"
    )


def times(ratio: float | None) -> str:
    """A ratio as people read it."""
    if ratio is None:
        return "-"
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.2g}x"


def _heads(section: str, circumstances: Mapping[str, Any]) -> tuple[str, tuple[str, str]]:
    """The title of a section, and what stands above its two quantities."""
    if section == "scale":
        small, large = (f"{jobs:,} jobs" for jobs in circumstances["scale"])
        return "scale, the project against itself", (small, large)
    jobs = circumstances["encodings_jobs" if section == "encodings" else "jobs"]
    return f"{section}, {jobs:,} jobs", ("baseline", "project")


def _section(title: str, heads: tuple[str, str], rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", overflow="fold")
    for column in (*heads, "ratio", "bar"):
        table.add_column(column, justify="right")
    table.add_column("met")
    table.add_column("note", overflow="fold")
    for row in rows:
        table.add_row(
            row.name,
            quantity(row.baseline, row.unit),
            quantity(row.project, row.unit),
            times(row.ratio),
            row.bar.text if row.bar else "",
            {True: "yes", False: "no", None: ""}[row.met],
            row.note,
        )
    return table


def _as_json(row: Row) -> dict[str, Any]:
    bar = row.bar
    return {
        "section": row.section,
        "name": row.name,
        "unit": row.unit,
        "baseline": row.baseline,
        "project": row.project,
        "ratio": row.ratio,
        "bar": None if bar is None else {"text": bar.text, "source": bar.source},
        "met": row.met,
        "note": row.note,
        "detail": dict(row.detail),
    }
