"""A run's plots as inline SVG: curves of training, accuracy over thinking budget and over votes.

The SVG carries no font, no colour of its own for text and axes (it takes the page's, light or dark) and no request to
anywhere. Series differ by line style as well as by colour. Needs matplotlib, the extra `report`. Not covered: the page
around them (report.py).
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raison.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"
"""A stand-in that no plot uses otherwise; it becomes the colour of the page's text."""
MAIN, CONTROL = "#2f7fd0", "#d9822b"
STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "grid.color": INK,
    "grid.alpha": 0.12,
    "axes.grid": True,
    "legend.frameon": False,
}
GRPO_CURVES = {
    "reward": "reward",
    "solved": "share of samples that are right",
    "length": "thinking, tokens",
    "entropy": "entropy, nats per token",
    "dead": "share of groups all alike",
    "truncated": "share cut by the budget",
}
OWN_INK = (
    "<style>svg{color:#24292f}@media (prefers-color-scheme:dark){svg{color:#d0d7de}}"
    "text{font-family:sans-serif}</style>"
)
SMOOTH = 9
"""Steps in the running mean that is drawn over the raw curve."""


def grpo_curves(steps: Sequence[Mapping[str, Any]], control: Sequence[Mapping[str, Any]]) -> str:
    """Six panels over the steps of a grpo stage, with its random-reward control beside it where there is one."""

    def draw(figure: Figure) -> None:
        for place, (key, title) in enumerate(GRPO_CURVES.items(), start=1):
            axes = figure.add_subplot(2, 3, place)
            _curve(axes, steps, key, MAIN, "-", "checked reward")
            _curve(axes, control, key, CONTROL, "--", "random reward")
            axes.set_title(title)
            if place == 1 and control:
                axes.legend(fontsize=8)
            if place > 3:
                axes.set_xlabel("step")

    return svg(draw, 9.0, 4.6, "training curves of the GRPO stage")


def loss_curves(stages: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The next-token loss of each supervised stage, side by side."""

    def draw(figure: Figure) -> None:
        for place, (name, steps) in enumerate(stages.items(), start=1):
            axes = figure.add_subplot(1, len(stages), place)
            _curve(axes, steps, "loss", MAIN, "-", name)
            axes.set_title(name)
            axes.set_xlabel("step")
            if place == 1:
                axes.set_ylabel("loss, nats per token")

    return svg(draw, 9.0, 2.4, "loss of the supervised stages")


def budget_curve(rows: Sequence[Mapping[str, Any]]) -> str:
    """pass@1 with its 95 % interval over thinking budgets, evenly spaced; budget 0 is the answer at once."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        labels = ["at once" if row["budget"] == 0 else str(row["budget"]) for row in rows]
        _points(axes, labels, [row["pass_at_1"] for row in rows], "pass@1")
        at_once = next((row["pass_at_1"]["value"] for row in rows if row["budget"] == 0), None)
        if at_once is not None:
            axes.axhline(at_once, color=CONTROL, linestyle="--", linewidth=1)
        axes.set_xlabel("thinking budget, tokens")

    return svg(draw, 4.4, 3.0, "accuracy over thinking budget")


def vote_curve(rows: Sequence[Mapping[str, Any]]) -> str:
    """Share of problems of which the checker accepts at least one of k samples, with its 95 % interval."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _points(axes, [str(row["votes"]) for row in rows], [row["best_of"] for row in rows], "best of n, checked")
        axes.set_xlabel("samples")

    return svg(draw, 4.4, 3.0, "accuracy over samples")


def _curve(axes: Axes, steps: Sequence[Mapping[str, Any]], key: str, colour: str, line: str, label: str) -> None:
    """The raw figures faint, their running mean over them."""
    points = [(step["step"], step[key]) for step in steps if step.get(key) is not None]
    if not points:
        return
    at, raw = zip(*points, strict=True)
    axes.plot(at, raw, color=colour, linewidth=0.6, alpha=0.35)
    mean = [sum(near := raw[max(0, i - SMOOTH // 2) : i + SMOOTH // 2 + 1]) / len(near) for i in range(len(raw))]
    axes.plot(at, mean, color=colour, linestyle=line, linewidth=1.6, label=label)


def _points(axes: Axes, labels: Sequence[str], estimates: Sequence[Mapping[str, float]], name: str) -> None:
    values = [e["value"] for e in estimates]
    below = [max(0.0, e["value"] - e["low"]) for e in estimates]
    above = [max(0.0, e["high"] - e["value"]) for e in estimates]
    places = range(len(labels))
    axes.errorbar(places, values, yerr=[below, above], color=MAIN, marker="o", markersize=5, capsize=3, linewidth=1.6)
    for place, value in zip(places, values, strict=True):
        axes.annotate(f"{value:.2f}", (place, value), textcoords="offset points", xytext=(7, -11), fontsize=8)
    axes.set_xticks(list(places), list(labels))
    axes.set_xlim(-0.4, len(labels) - 0.4)
    axes.set_ylim(-0.02, 1.05)
    axes.set_ylabel(name)


def svg(draw: Callable[[Figure], None], width: float, height: float, label: str) -> str:
    """What `draw` puts on a figure of that size in inches, as an `<svg>` element described by `label`."""
    try:
        import matplotlib  # optional: the extra `report`, and slow to import
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("plots need matplotlib: pip install 'raison[report]'") from None
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": label}):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def standing(text: str) -> str:
    """The `<svg>` element as a file that stands by itself: its text takes the ink of a light or a dark page."""
    return text.replace(">", f">{OWN_INK}", 1)
