"""The plots of a frontier: accuracy over what it costs, the three laws, and the recommended split.

Sizes differ by colour and mark. Needs matplotlib, the extra `report`. Not covered: the page around them (page.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from raison.bench.frontier.allocate import LAWS
from raison.bench.frontier.grid import Grid
from raison.bench.frontier.laws import Laws
from raison.bench.frontier.prices import CURRENCIES
from raison.bench.frontier.record import Record
from raison.bench.frontier.result import Analysis, pareto
from raison.bench.plots import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#2f7fd0", "#d9822b", "#3b9c6a", "#7a5bb5", "#b8446c")
MARKS = ("o", "s", "^", "D", "v")
LABELS = {"flops": "FLOPs of training and all answers", "usd": "dollars for training and all answers"}
FINE = 60


def pictures(grid: Grid, analysis: Analysis) -> dict[str, str]:
    """Every plot as an `<svg>` element, by name."""
    records = list(dict.fromkeys(one.record for one in analysis.placed))
    return {
        "frontier": svg(lambda f: _frontier(f, grid, analysis), 9.0, 3.8, "accuracy over cost, with the frontier"),
        "laws": svg(lambda f: _laws(f, grid, analysis, records), 9.0, 6.4, "the laws, measured and fitted"),
        "split": svg(lambda f: _split(f, analysis), 9.0, 3.0, "the recommended split over the budget"),
    }


def _frontier(figure: Figure, grid: Grid, analysis: Analysis) -> None:
    panels = figure.subplots(1, len(CURRENCIES), sharey=True)
    for axes, currency in zip(panels, CURRENCIES, strict=True):
        for place, size in enumerate(grid.sizes):
            some = [one for one in analysis.placed if one.record.cell.size == size.name]
            axes.plot(
                [getattr(one, currency) for one in some], [one.point.accuracy.value for one in some],
                MARKS[place % len(MARKS)], color=_colour(place), markersize=3, alpha=0.45, label=size.name,
            )  # fmt: skip
        best = pareto(analysis.placed, currency)
        values = [one.point.accuracy.value for one in best]
        bars = [[max(0.0, one.point.accuracy.value - one.point.accuracy.low) for one in best],
                [max(0.0, one.point.accuracy.high - one.point.accuracy.value) for one in best]]  # fmt: skip
        at = [getattr(one, currency) for one in best]
        axes.errorbar(at, values, yerr=bars, color="#888888", linewidth=1.2, capsize=2, label="frontier")
        ladder = analysis.ladders[currency]
        axes.plot(
            [one.split.cost for one in ladder],
            [one.split.accuracy for one in ladder],
            ":",
            color="#b8446c",
            label="by the laws",
        )
        _logarithmic(axes)
        axes.set_xlabel(LABELS[currency])
    panels[0].set_ylabel("accuracy")
    panels[0].legend(fontsize=8)


def _laws(figure: Figure, grid: Grid, analysis: Analysis, records: Sequence[Record]) -> None:
    panels = figure.subplots(2, 2)
    _training(panels[0][0], grid, analysis, records)
    _accuracy(panels[0][1], grid, analysis, records)
    _reinforcement(panels[1][0], grid, analysis, records)
    _thinking(panels[1][1], grid, analysis, records)


def _training(axes: Axes, grid: Grid, analysis: Analysis, records: Sequence[Record]) -> None:
    tokens = np.geomspace(grid.tokens[0], grid.most_tokens_times * grid.tokens[-1], FINE)
    for place, some in _by_size(grid, [r for r in records if not r.cell.steps]):
        parameters = some[0].parameters
        axes.plot([r.training.units for r in some], [r.loss for r in some], MARKS[place % 5], color=_colour(place))
        _curve(axes, analysis, tokens, lambda laws, d, n=parameters: laws.loss.loss(n, d), _colour(place))
    _logarithmic(axes)
    axes.set_title("training: loss over tokens")
    axes.set_xlabel("tokens")
    axes.set_ylabel("nats a token")


def _accuracy(axes: Axes, grid: Grid, analysis: Analysis, records: Sequence[Record]) -> None:
    tokens = np.geomspace(grid.tokens[0], grid.most_tokens_times * grid.tokens[-1], FINE)
    for place, some in _by_size(grid, [r for r in records if not r.cell.steps]):
        parameters = some[0].parameters
        _points(axes, [r.training.units for r in some], [r.best_single for r in some], place, grid.sizes[place].name)
        _curve(axes, analysis, tokens, lambda laws, d, n=parameters: laws.trained(n, d), _colour(place))
    _logarithmic(axes)
    axes.set_title("training: accuracy over tokens")
    axes.set_xlabel("tokens")
    axes.legend(fontsize=8)


def _reinforcement(axes: Axes, grid: Grid, analysis: Analysis, records: Sequence[Record]) -> None:
    samples = np.geomspace(1.0, grid.most_tokens_times * max(r.reinforcement.units for r in records), FINE)
    for place, some in _by_size(grid, records):
        for tokens in grid.tokens:
            chain = [r for r in some if r.cell.tokens == tokens]
            start = chain[0].best_single.accuracy.value
            _points(axes, [max(1.0, r.reinforcement.units) for r in chain], [r.best_single for r in chain], place)
            fitted = [analysis.fitted.laws.reinforced(max(start, 1e-3), n) for n in samples]
            axes.plot(samples, fitted, color=_colour(place), linewidth=0.9)
    _logarithmic(axes)
    axes.set_title("reinforcement: accuracy over samples drawn (1 = none)")
    axes.set_xlabel("samples")


def _thinking(axes: Axes, grid: Grid, analysis: Analysis, records: Sequence[Record]) -> None:
    for place, some in _by_size(grid, [r for r in records if r.best_single.accuracy.value > 0]):
        for record in some:
            kept = [r.accuracy.value / record.best_single.accuracy.value for r in record.points if r.votes == 1]
            axes.plot(grid.budgets, kept, MARKS[place % 5], color=_colour(place), markersize=3, alpha=0.5)
    budgets = np.geomspace(grid.budgets[0], grid.budgets[-1], FINE)
    _curve(axes, analysis, budgets, lambda laws, budget: laws.kept(budget), "#888888")
    _logarithmic(axes)
    axes.set_title("thinking: accuracy over budget, the largest being 1")
    axes.set_xlabel("thinking tokens")


def _split(figure: Figure, analysis: Analysis) -> None:
    panels = figure.subplots(1, len(CURRENCIES), sharey=True)
    for axes, currency in zip(panels, CURRENCIES, strict=True):
        ladder = analysis.ladders[currency]
        for place, law in enumerate(LAWS):
            ranges = [one.shares[law] for one in ladder]
            at, values = [one.total for one in ladder], [r.value for r in ranges]
            axes.plot(at, values, marker=MARKS[place], color=_colour(place), label=law)
            axes.fill_between(at, [r.low for r in ranges], [r.high for r in ranges], color=_colour(place), alpha=0.15)
        _logarithmic(axes)
        axes.set_xlabel(LABELS[currency])
    panels[0].set_ylabel("share of the budget")
    panels[0].legend(fontsize=8)


def _logarithmic(axes: Axes) -> None:
    """Powers of ten alone are named: what lies between would write over each other."""
    axes.set_xscale("log")
    axes.tick_params(axis="x", which="minor", labelbottom=False)


def _curve(
    axes: Axes, analysis: Analysis, at: Sequence[float] | np.ndarray, figure: Callable[..., float], colour: str
) -> None:
    """The fitted law, and the band that holds it in 80 % of its resamples."""
    drawn = np.array([[figure(laws, float(x)) for x in at] for laws in analysis.fitted.draws])
    best: Laws = analysis.fitted.laws
    axes.plot(at, [figure(best, float(x)) for x in at], color=colour, linewidth=1.4)
    if len(drawn):
        low, high = np.quantile(drawn, (0.1, 0.9), axis=0)
        axes.fill_between(at, low, high, color=colour, alpha=0.15)


def _points(axes: Axes, at: Sequence[float], points: Sequence[object], place: int, label: str = "") -> None:
    estimates = [point.accuracy for point in points]  # type: ignore[attr-defined]
    values = [e.value for e in estimates]
    bars = [[max(0.0, e.value - e.low) for e in estimates], [max(0.0, e.high - e.value) for e in estimates]]
    axes.errorbar(
        at, values, yerr=bars, fmt=MARKS[place % 5], color=_colour(place), markersize=4, capsize=2, label=label
    )  # fmt: skip


def _by_size(grid: Grid, records: Sequence[Record]) -> Iterator[tuple[int, list[Record]]]:
    for place, size in enumerate(grid.sizes):
        some = [record for record in records if record.cell.size == size.name]
        if some:
            yield place, some


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]
