"""Plots of an endpoint's measurement as inline SVG: percentiles of each cell side by side, and requests over time.

Needs matplotlib, the extra `report`; style and drawing are those of bench/plots.py. Not covered: the page around them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raison.bench.endpoint.summary import Cell
from raison.bench.plots import CONTROL, MAIN, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {
    "ttft": "first token, s", "ttfat": "first answer token, s",
    "output_speed": "output, tokens/s", "end_to_end": "end to end, s",
}  # fmt: skip


def spreads(results: Sequence[Mapping[str, Any]]) -> str:
    """A panel a figure, a line a cell: P5 to P95 thin, P25 to P75 thick, the median with its 95 % interval."""
    names = [f"{result['input']}, {result['load']}" for result in results]

    def draw(figure: Figure) -> None:
        for place, (figure_name, title) in enumerate(PANELS.items(), start=1):
            axes = figure.add_subplot(1, len(PANELS), place)
            for line, result in enumerate(results):
                _spread(axes, line, result["metrics"][figure_name])
            axes.set_title(title)
            axes.set_yticks(range(len(names)), names if place == 1 else [""] * len(names), fontsize=8)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.set_xlim(0, 1.05 * axes.get_xlim()[1])

    return svg(draw, 10.0, 1.2 + 0.35 * len(names), "percentiles of times and speed for each input and load")


def _spread(axes: Axes, line: int, found: Mapping[str, Any] | None) -> None:
    if found is None:
        return
    at = {name: found[name]["value"] for name in ("p5", "p25", "p50", "p75", "p95")}
    axes.plot([at["p5"], at["p95"]], [line, line], color=MAIN, linewidth=1)
    axes.plot([at["p25"], at["p75"]], [line, line], color=MAIN, linewidth=5, alpha=0.5, solid_capstyle="butt")
    middle = found["p50"]
    error = [[at["p50"] - middle["low"]], [middle["high"] - at["p50"]]]
    axes.errorbar(at["p50"], line, xerr=error, color=CONTROL, marker="o", markersize=4, capsize=3, linewidth=1.4)


def over_time(cells: Sequence[Cell]) -> str:
    """A panel a cell: each request's time to its first token and its end, at the moment it was due."""

    def draw(figure: Figure) -> None:
        columns = min(3, len(cells))
        for place, cell in enumerate(cells, start=1):
            axes = figure.add_subplot(-(-len(cells) // columns), columns, place)
            _times(axes, cell)
            axes.set_title(f"{cell.input}, {cell.load.name}")
            axes.set_xlabel("due, s")
            if place == 1:
                axes.set_ylabel("s")
                axes.legend(fontsize=8)

    return svg(draw, 10.0, 2.6 * -(-len(cells) // 3), "times of each request over the measurement")


def _times(axes: Axes, cell: Cell) -> None:
    whole = [row for row in cell.rows if row.whole]
    failed = [row for row in cell.rows if not row.whole]
    due = [row.scheduled for row in whole]
    axes.plot(due, [row.ttft or 0.0 for row in whole], ".", color=MAIN, label="first token")
    axes.plot(due, [row.end_to_end for row in whole], "+", color=CONTROL, label="end")
    axes.plot([row.scheduled for row in failed], [0.0] * len(failed), "x", color="#b8446c", label="not whole")
    axes.set_ylim(bottom=0)
