"""A row of the result: one quantity, for the in-process baseline and for this project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.bench.bars import BARS, Bar
from tests.bench.measure import Timing

Unit = Literal["seconds", "bytes", "share of a core", "requests a second"]
MORE_IS_BETTER: frozenset[Unit] = frozenset({"requests a second"})


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity, less of which is better, unless its unit says otherwise.

    None is what could not be measured, or does not exist.
    """

    section: str
    name: str
    unit: Unit
    baseline: float | None
    project: float | None
    note: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Further numbers for the JSON; their names say what they are."""

    @property
    def ratio(self) -> float | None:
        """How many times better the project is than the baseline."""
        better, worse = self.project, self.baseline
        if self.unit not in MORE_IS_BETTER:
            better, worse = worse, better
        if better is None or not worse:
            return None
        return better / worse

    @property
    def bar(self) -> Bar | None:
        """What the row should reach."""
        return BARS.get(self.name)

    @property
    def met(self) -> bool | None:
        """Whether it does; None without a bar or a measurement."""
        if self.bar is None:
            return None
        return self.bar.is_met(ratio=self.ratio, project=self.project)


def timing_row(section: str, name: str, baseline: Timing, project: Timing, note: str = "") -> Row:
    """The row of two timings."""
    detail = {
        "baseline_p95": baseline.p95,
        "project_p95": project.p95,
        "baseline_samples": baseline.samples,
        "project_samples": project.samples,
    }
    return Row(section, name, "seconds", baseline.median, project.median, note, detail)
