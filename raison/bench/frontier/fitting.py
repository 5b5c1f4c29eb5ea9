"""The three laws fitted to the cells of a frontier, each with its resamples.

Fits are those of plan/laws.py and plan/coverage.py. Not covered: what the laws say (laws.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from raison.bench.frontier.grid import Grid
from raison.bench.frontier.laws import LEAST_VOTES, STEEP, Laws, Teller
from raison.bench.frontier.prices import LEAST_SPREAD
from raison.bench.frontier.record import Record
from raison.errors import UserError
from raison.plan.coverage import BetaMixture, fit_mixture
from raison.plan.laws import Chinchilla, Sigmoid, fit_chinchilla, fit_sigmoid
from raison.plan.least_squares import Fit, Law, straight

SIZE_POWERS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
GAMMAS = (0.0, 0.25, 0.5, 0.75, 1.0)
SOLVES_SOME = 0.05
"""Accuracy from which on a cell tells what thinking buys."""
LEAST_POINTS = 4
"""That a sigmoid needs."""
RIVALS = np.linspace(0.02, 0.9, 23)
MOST_MIXTURES = 12
"""Cells whose problems are looked at one by one: each is a search over thousands of Beta distributions."""
AS_GOOD, LEAST_ERROR = 2.0, 0.02
"""Times the error of the better law, or of an accuracy measured on some hundreds of problems, at which another is as
good."""
MOST_DRAWS = 1000
"""More than any fit is resampled."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The laws of best fit, what they might as well have been, and how far measurements lie from them."""

    laws: Laws
    draws: tuple[Laws, ...]
    rms: dict[str, float]
    """Root mean square residual: of the loss relative, of the others in accuracy or its share."""
    points: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Fits:
    """Every law with its resamples; of `spreads` and `rivals` the first is the best fit."""

    loss: Fit[Chinchilla]
    link: Fit[Sigmoid]
    grown: Fit[Sigmoid]
    size_power: float
    told_by: Teller
    gain: Fit[Sigmoid]
    gamma: float
    thinking: Fit[Sigmoid]
    spreads: Sequence[tuple[float, float]]
    rivals: Sequence[float]

    def world(self, grid: Grid, index: int) -> Laws:
        """The laws of best fit at 0, of the resamples from 1 on."""
        return Laws(
            _picked(self.loss, index), self.loss.rms, _picked(self.link, index), _picked(self.grown, index),
            self.size_power, self.told_by, _picked(self.gain, index), self.gamma, _picked(self.thinking, index),
            self.spreads[index], self.rivals[index], float(grid.budgets[-1]), grid.selector,
        )  # fmt: skip


def fit_laws(grid: Grid, records: Sequence[Record]) -> Fitted:
    """Raises UserError where there are too few cells for a law, or none that solves anything."""
    solving = sum(r.best_single.accuracy.value >= SOLVES_SOME for r in records)
    if solving * len(grid.budgets) < LEAST_POINTS:
        raise UserError(
            f"{solving} models of this grid solve {SOLVES_SOME:.0%} of the problems, which tells no law of thinking; "
            "raise tokens or lower level"
        )
    fits = _fit_all(grid, records)
    worlds = [fits.world(grid, index) for index in range(1 + len(fits.loss.resampled))]
    named: dict[str, Fit[Any]] = {
        "loss": fits.loss, "accuracy over loss": fits.link, "accuracy over tokens": fits.grown,
        "reinforcement": fits.gain, "thinking budget": fits.thinking,
    }  # fmt: skip
    rms, points = ({name: getattr(fit, key) for name, fit in named.items()} for key in ("rms", "points"))
    return Fitted(worlds[0], tuple(worlds[1:]), rms, points)


def _fit_all(grid: Grid, records: Sequence[Record]) -> _Fits:
    trained = [record for record in records if not record.cell.steps]
    telling = _spread([r for r in records if SOLVES_SOME <= r.best_single.accuracy.value <= 1 - SOLVES_SOME])
    mixtures = [fit_mixture(r.right, [r.samples] * len(r.right), seed=grid.seed) for r in telling]
    gamma, gain = _fit_gain(grid, records)
    loss = fit_chinchilla(
        [r.parameters for r in trained], [r.training.units for r in trained], [r.loss for r in trained], seed=grid.seed
    )  # fmt: skip
    link = _fit_link(grid, trained)
    power, grown = _fit_grown(grid, trained)
    spreads = _spreads(mixtures, grid.seed)
    rivals = _rivals(grid, telling, [fit.law for fit in mixtures])
    fits = _Fits(
        loss, link, grown, power, "loss", gain, gamma, _fit_thinking(grid, records), spreads, rivals
    )  # fmt: skip
    return replace(fits, told_by=_teller(_error(fits.world(grid, 0), trained), grown.mean_error))


def _teller(loss: float, tokens: float) -> Teller:
    """By the mean errors of accuracy that the two laws leave."""
    if max(loss, tokens) <= AS_GOOD * max(min(loss, tokens), LEAST_ERROR):
        return "both"
    return "loss" if loss < tokens else "tokens"


def _error(laws: Laws, trained: Sequence[Record]) -> float:
    """Mean distance of the measured accuracies from the laws."""
    return fmean(
        abs(laws.trained(r.parameters, r.training.units) - r.best_single.accuracy.value) for r in trained
    )  # fmt: skip


def _fit_grown(grid: Grid, trained: Sequence[Record]) -> tuple[float, Fit[Sigmoid]]:
    """The sigmoid over tokens, and the power of the size that brings the sizes together best."""
    accuracies = [r.best_single.accuracy.value for r in trained]
    fits = []
    for power in SIZE_POWERS:
        grown = [r.training.units * r.parameters**power for r in trained]
        fits.append((power, fit_sigmoid(grown, accuracies, start=0.0, seed=grid.seed)))
    return min(fits, key=lambda pair: pair[1].mean_error)


def _picked(fit: Fit[Law], index: int) -> Law:
    return fit.resampled[index - 1] if index else fit.law


def _fit_link(grid: Grid, trained: Sequence[Record]) -> Fit[Sigmoid]:
    accuracies = [r.best_single.accuracy.value for r in trained]
    with np.errstate(over="ignore"):  # far from the middle nothing is solved
        return fit_sigmoid([math.exp(-STEEP * r.loss) for r in trained], accuracies, start=0.0, seed=grid.seed)


def _fit_gain(grid: Grid, records: Sequence[Record]) -> tuple[float, Fit[Sigmoid]]:
    """The sigmoid of reinforcement, and the power of the start that brings the chains together best."""
    starts = {(r.cell.size, r.cell.tokens): _start(r) for r in records if not r.cell.steps}
    rows = [
        (r.reinforcement.units, starts[r.cell.size, r.cell.tokens], r.best_single.accuracy.value)
        for r in records if r.cell.steps
    ]  # fmt: skip
    closed = [(after - start) / (1 - start) for _, start, after in rows]
    fits = [
        (gamma, fit_sigmoid([n * start**gamma for n, start, _ in rows], closed, start=0.0, seed=grid.seed))
        for gamma in GAMMAS
    ]  # fmt: skip
    return min(fits, key=lambda pair: pair[1].mean_error)


def _start(record: Record) -> float:
    """pass@1 that reinforcement begins at, kept off 0 and 1 by half a problem."""
    half = 0.5 / len(record.right)
    return min(max(record.best_single.accuracy.value, half), 1 - half)


def _fit_thinking(grid: Grid, records: Sequence[Record]) -> Fit[Sigmoid]:
    """By errors of accuracy, as of what a model that solves little keeps, little depends."""
    rows = [
        (budget, whole, r.at(budget, 1).accuracy.value / whole)
        for r in records if (whole := r.best_single.accuracy.value) >= SOLVES_SOME for budget in grid.budgets
    ]  # fmt: skip
    budgets, wholes, kept = zip(*rows, strict=True)
    return fit_sigmoid(budgets, kept, most=1.5, weights=wholes, seed=grid.seed)


def _spread(records: Sequence[Record]) -> list[Record]:
    """At most MOST_MIXTURES of them, evenly."""
    return list(records[:: math.ceil(len(records) / MOST_MIXTURES) or 1])


def _spreads(fits: Sequence[Fit[BetaMixture]], seed: int) -> list[tuple[float, float]]:
    """The line through the cells' concentrations, then through cells drawn anew, each with its own resampled law."""
    if not fits:
        return [(0.0, 0.0)] * (MOST_DRAWS + 1)
    draw = np.random.default_rng(seed)
    again = [
        _line([fits[i].resampled[b] for i in draw.integers(len(fits), size=len(fits))])
        for b in range(len(fits[0].resampled))
    ]  # fmt: skip
    return [_line([fit.law for fit in fits]), *again]


def _line(laws: Sequence[BetaMixture]) -> tuple[float, float]:
    """Of ln(alpha + beta) over the mean."""
    means, sizes = np.array([law.mean for law in laws]), np.log([law.alpha + law.beta for law in laws])
    return straight(means, sizes, LEAST_SPREAD)


def _rivals(grid: Grid, records: Sequence[Record], mixtures: Sequence[BetaMixture]) -> list[float]:
    """The rival's share that tells the measured votes best, then so for cells drawn anew."""
    ks = [k for k in grid.votes if k >= LEAST_VOTES]
    if not records or not ks:
        return [0.5] * (MOST_DRAWS + 1)
    errors_CR = np.array([[_vote_error(grid, r, law, ks, rival) for rival in RIVALS]
                          for r, law in zip(records, mixtures, strict=True)])  # fmt: skip
    draw = np.random.default_rng(grid.seed)
    drawn = [np.arange(len(records)), *(draw.integers(len(records), size=len(records)) for _ in range(MOST_DRAWS))]
    return [float(RIVALS[errors_CR[rows].sum(axis=0).argmin()]) for rows in drawn]


def _vote_error(grid: Grid, record: Record, law: BetaMixture, ks: Sequence[int], rival: float) -> float:
    """Squared, summed over numbers of votes under the largest budget."""
    return sum((law.majority(k, rival) - record.at(grid.budgets[-1], k).accuracy.value) ** 2 for k in ks)
