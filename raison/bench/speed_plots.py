"""The plot of `raison bench engine`: tokens/s over streams for each runner, and its perplexity beside it.

An SVG file that stands by itself: its text takes the ink of the reader's light or dark page. Not covered: plots within
a run's report (plots.py, from which style and drawing come).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raison.bench.plots import standing, svg
from raison.bench.rivals import OURS
from raison.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    OURS: "#2f7fd0", "llama.cpp": "#d9822b", "openvino": "#7a5bb5", "transformers": "#3b9c6a", "vllm": "#b8446c"
}  # fmt: skip
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (6, 3)), (0, (3, 1)))
KINDS = {"shared": "one prompt for all streams", "different": "a prompt for each stream"}


def write_plot(result: Mapping[str, Any], path: Path) -> None:
    """The figures of `bench_engine` as an SVG file. Raises UserError where matplotlib is missing."""
    tables = {kind: table for kind, table in result["loads"].items() if kind in KINDS}
    styles = _styles([name for table in tables.values() for name in table["rates"]])

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(tables) + 1, squeeze=False)[0]
        for axes, (kind, table) in zip(panels, tables.items(), strict=False):
            _rates(axes, KINDS[kind], table["rates"], styles)
        _qualities(panels[-1], result["perplexity"], styles)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)

    text = svg(draw, 3.6 * (len(tables) + 1), 4.2, "tokens per second over parallel streams, and perplexity")
    write_atomic(path, standing(text).encode())


def _styles(names: list[str]) -> dict[str, dict[str, Any]]:
    """A colour for each maker, a line for each of its settings."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(names):
        whose = name.partition(" ")[0]
        before = sum(other.startswith(f"{whose} ") for other in found)
        found[name] = {"color": COLOURS[whose], "linestyle": LINES[before % len(LINES)]}
    return found


def _rates(axes: Axes, title: str, rates: Mapping[str, Mapping[str, float]], styles: Mapping[str, Any]) -> None:
    for name, row in rates.items():
        axes.plot([int(n) for n in row], list(row.values()), marker="o", markersize=3, label=name, **styles[name])
    streams = sorted({int(n) for row in rates.values() for n in row})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xticks(streams, [str(n) for n in streams])
    axes.set_xlabel("streams")
    axes.set_ylabel("tokens/s")
    axes.set_title(title)


def _qualities(axes: Axes, perplexities: Mapping[str, float], styles: Mapping[str, Any]) -> None:
    names = [name for name in reversed(list(perplexities)) if name in styles]
    values = [perplexities[name] for name in names]
    axes.barh(range(len(names)), values, color=[styles[name]["color"] for name in names], height=0.6)
    for place, value in enumerate(values):
        axes.annotate(f"{value:.2f}", (value, place), textcoords="offset points", xytext=(3, -3), fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlim(0, 1.2 * max(values, default=1.0))
    axes.set_axisbelow(True)
    axes.set_title("perplexity: less is better")
