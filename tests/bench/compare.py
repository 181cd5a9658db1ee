"""Two results beside each other: has anything become worse? Ratios to the baseline count, times do not.

A quantity without a baseline counts if it is no time: bytes are the same on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from tests.bench.report import FORMAT, times


class Change(NamedTuple):
    """How a row went from one result to the other; a factor below 1 is for the worse."""

    name: str
    before: float
    after: float
    factor: float


def load(path: Path) -> dict[str, Any]:
    """A result that `report.write` wrote.

    Raises:
        ValueError: it is none, or one of another format.
    """
    try:
        result = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise ValueError(f"{path}: no result of format {FORMAT}")
    return result


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Every row that both results have, the worst first.

    Raises:
        ValueError: they are of different numbers of jobs, or their rows of scale are.
    """
    if old["jobs"] != new["jobs"]:
        raise ValueError(f"results of {old['jobs']} and of {new['jobs']} jobs do not compare")
    scales = old.get("scale"), new.get("scale")
    if all(scales) and scales[0] != scales[1]:
        raise ValueError(f"scales {scales[0]} and {scales[1]} do not compare")
    before = {row["name"]: row for row in old["rows"]}
    found = (_change(before[row["name"]], row) for row in new["rows"] if row["name"] in before)
    return sorted((one for one in found if one is not None), key=lambda one: one.factor)


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The new result, and the rows that only the old one has."""
    rows = {row["name"]: row for row in [*old["rows"], *new["rows"]]}
    return {**old, **new, "rows": [*rows.values()]}


def missing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What only the old result has: of that, nothing can be said."""
    names = {row["name"] for row in new["rows"]}
    return [row["name"] for row in old["rows"] if row["name"] not in names]


def as_table(several: Sequence[Change], factor: float) -> Table:
    """The changes; what fell by more than the factor is marked."""
    table = Table(title="old and new", title_justify="left")
    for column in ("", "old", "new", "change", ""):
        table.add_column(column, justify="left" if not column else "right")
    for one in several:
        mark = "WORSE" if is_worse(one, factor) else ""
        table.add_row(one.name, _shown(one.before), _shown(one.after), times(one.factor), mark)
    return table


def is_worse(change: Change, factor: float) -> bool:
    """Whether a row fell by more than the factor."""
    return change.factor < 1 / factor


def _change(old: Mapping[str, Any], new: Mapping[str, Any]) -> Change | None:
    if old["ratio"] and new["ratio"]:
        return Change(new["name"], old["ratio"], new["ratio"], new["ratio"] / old["ratio"])
    if new["unit"] == "bytes" and old["project"] and new["project"]:
        return Change(new["name"], old["project"], new["project"], old["project"] / new["project"])
    return None


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
