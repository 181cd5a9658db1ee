"""The queries of a result as a picture: how many times faster than the per-process cache, on a logarithmic scale.

An SVG that is read without any program of ours: text is text, the colours follow the reader's light or dark theme,
and what the picture says stands in its description as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from tests.bench.bars import BARS, QUERIES
from tests.bench.report import times

WIDTH = 860
LABELS = 228
"""Width of what stands left of the axis, and `VALUES` right of it."""
VALUES = 76
HEAD = 78
"""Height of what stands above the first query, and `FOOT` below the last."""
FOOT = 46
STEP = 27
RADIUS = 5.5

_STYLE = """
text { font: 13px -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.faint { fill: #59636e }
.grid { stroke: #d1d9e0 }
.even { stroke: #59636e }
.span { stroke: #54aeff; stroke-width: 3 }
.warm { fill: #0969da }
.cold { fill: #ffffff; stroke: #0969da; stroke-width: 2 }
.bar { stroke: #bc4c00; stroke-width: 3 }
.thin { stroke-width: 1.5; stroke-dasharray: 3 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .faint { fill: #9198a1 }
  .grid { stroke: #3d444d }
  .even { stroke: #9198a1 }
  .span { stroke: #1f6feb }
  .warm { fill: #58a6ff }
  .cold { fill: #0d1117; stroke: #58a6ff }
  .bar { stroke: #f0883e }
}
"""


class Line(NamedTuple):
    """One query: ratios to the per-process cache, above 1 is faster."""

    query: str
    warm: float
    cold: float
    bars: tuple[float, ...]
    """Targets; that of a warm client first."""


def lines(result: Mapping[str, Any]) -> list[Line]:
    """The queries of a result.

    Raises:
        ValueError: there are none in it.
    """
    rows = {row["name"]: row for row in result["rows"]}
    found = []
    for query in QUERIES:
        warm, cold = (rows.get(f"{query}, {mode}", {}).get("ratio") for mode in ("warm", "cold"))
        if warm and cold:
            several = (BARS.get(f"{query}, {mode}") for mode in ("warm", "cold"))
            bars = tuple(bar.least_ratio for bar in several if bar and bar.least_ratio)
            found.append(Line(query, warm, cold, bars))
    if not found:
        raise ValueError("no queries in the result: it needs the part 'tree'")
    return found


def draw(result: Mapping[str, Any]) -> str:
    """The picture.

    Raises:
        ValueError: the result has no queries.
    """
    several = lines(result)
    axis = Axis([number for one in several for number in (one.warm, one.cold, *one.bars)])
    height = HEAD + STEP * len(several) + FOOT
    title = f"Queries against the per-process cache, {result['jobs']:,} jobs"
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title description">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(_describe(several))}</desc>',
        f"<style>{_STYLE}</style>",
        _text(12, 24, title, "title"),
        *_legend(12, 50),
        *axis.grid(HEAD - 8, height - FOOT),
        _text(
            *(axis.left + axis.width / 2, height - 8, "times faster (logarithmic)"),
            *("faint", "middle"),
        ),
    ]
    for number, line in enumerate(several):
        parts += _draw_line(line, axis, HEAD + STEP * number + STEP / 2)
    return "\n".join([*parts, "</svg>", ""])


class Axis:
    """From a ratio to a place."""

    left = float(LABELS)
    width = float(WIDTH - LABELS - VALUES)

    def __init__(self, ratios: Sequence[float]) -> None:
        self._first = math.floor(math.log10(min(1.0, *ratios)))
        self._last = math.ceil(math.log10(max(10.0, *ratios)))

    def x(self, ratio: float) -> float:
        share = (math.log10(ratio) - self._first) / (self._last - self._first)
        return self.left + share * self.width

    def grid(self, top: float, bottom: float) -> list[str]:
        parts = []
        for power in range(self._first, self._last + 1):
            x = self.x(10.0**power)
            kind = "grid" if power else "even"
            parts.append(_stroke(x, top, x, bottom, kind))
            shown = f"{10.0**power:,.0f}x" if power >= 0 else f"{10.0**power:g}x"
            parts.append(_text(x, bottom + 18, shown, "faint", "middle"))
        return parts


def _draw_line(line: Line, axis: Axis, y: float) -> list[str]:
    warm, cold = axis.x(line.warm), axis.x(line.cold)
    label = "get_job, a dict look-up" if line.query == "get_job" else line.query
    return [
        _text(LABELS - 14, y + 4.5, label, "", "end"),
        _stroke(min(warm, cold), y, max(warm, cold), y, "span"),
        *(
            _stroke(axis.x(bar), y - 9, axis.x(bar), y + 9, kind)
            for bar, kind in zip(line.bars, ("bar", "bar thin"), strict=False)
        ),
        _dot(cold, y, "cold"),
        _dot(warm, y, "warm"),
        _text(WIDTH - 12, y + 4.5, times(line.warm), "", "end"),
    ]


def _legend(x: float, y: float) -> list[str]:
    return [
        *(_dot(x + 6, y - 4.5, "warm"), _text(x + 18, y, "warm: asked before")),
        *(_dot(x + 168, y - 4.5, "cold"), _text(x + 180, y, "cold: holds nothing yet")),
        *(
            _stroke(x + 352, y - 13, x + 352, y + 4, "bar"),
            _text(x + 362, y, "target, warm"),
        ),
        *(_stroke(x + 534, y - 13, x + 534, y + 4, "bar thin"), _text(x + 544, y, "target, cold")),
        _text(WIDTH - 12, y, "warm", "faint", "end"),
    ]


def _describe(several: Sequence[Line]) -> str:
    said = []
    for line in several:
        wanted = f", {times(line.bars[0])} is the target" if line.bars else ""
        said.append(f"{line.query}: {times(line.warm)} warm, {times(line.cold)} cold{wanted}")
    return "How many times faster than the per-process cache. " + ". ".join(said) + "."


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}"{name} text-anchor="{anchor}">{escape(text)}</text>'


def _stroke(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _dot(x: float, y: float, kind: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}" class="{kind}"/>'
