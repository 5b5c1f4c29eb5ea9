"""Least squares for laws with few shape parameters, and intervals from a bootstrap: what the laws are fitted by.

Every law here is a sum of non-negative coefficients times curves whose shape has one or two parameters, such as
E + A N^-a + B D^-b. For given shapes the coefficients are linear least squares, solved exactly (variable projection,
Golub and Pereyra 1973); the shapes are found on a grid that closes in on its best point, so that no starting value
matters. A measurement far from the law counts by its distance, not by the distance squared (Huber 1964), so that one
run gone wrong does not bend the law; Hoffmann et al. (arXiv:2203.15556, section 3.3) fit theirs by the same loss. Not
covered: more than two shapes.

G points of the grid, P measurements, C coefficients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from raison.plan.interval import Interval

Array = NDArray[np.float64]
Basis = Callable[[Array], tuple[Array, Array]]
"""Shapes (G, 1 or 2) -> at the measured points, what needs no coefficient (G, P), and the curves that do (G, P, C)."""
Box = Sequence[tuple[float, float]]
"""Lowest and highest value of each shape."""

FIRST, POINTS, ROUNDS, CLOSER = 61, 9, 7, 0.35
"""Points on each axis of the first grid, fine enough for a steep curve, and of the closer ones; how many grids; and to
what share of its width each closes in."""
RESAMPLES = 100
SMALLEST = 1e-12
TUNING, DEVIATION = 1.345, 1.4826
"""Standard deviations from which on a measurement counts by its distance, 95 % as efficient as least squares where
errors are normal (Huber 1981, section 4.5); and a normal distribution's standard deviation over its median absolute
error."""
LEAST_BOUND = 0.03
"""Of an accuracy, or of a loss relative: below this nothing is an outlier, so that of a steep curve, most of whose
points lie exactly on its two levels, those between them keep their weight."""
REWEIGHTED, SETTLED = 10, 0.02
"""How often at most weights follow the residuals, and by how little they then still change."""

Law = TypeVar("Law")


@dataclass(frozen=True, slots=True)
class Solution:
    shapes: Array
    coefficients: Array
    residuals: Array
    """Measured minus fitted, (P,), times the weights."""


@dataclass(frozen=True, slots=True)
class Fit(Generic[Law]):
    """A law fitted to measurements, with what it might as well have been."""

    law: Law
    resampled: tuple[Law, ...]
    """The law refitted to resampled measurements."""
    rms: float
    """Root mean square of the residuals, in the units that were fitted."""
    mean_error: float
    """The mean of their absolute values: what one measurement gone wrong does not decide."""
    points: int

    @classmethod
    def of(cls, law: Law, resampled: Sequence[Law], residuals_P: Array) -> Fit[Law]:
        rms, mean_error = float(np.sqrt(np.mean(residuals_P**2))), float(np.mean(np.abs(residuals_P)))
        return cls(law, tuple(resampled), rms, mean_error, len(residuals_P))

    def interval(self, figure: Callable[[Law], float]) -> Interval:
        """80 % interval of any figure of the law that is above 0, such as `lambda law: law.loss(N, D)`."""
        mid = max(figure(self.law), SMALLEST)
        values = [max(figure(law), SMALLEST) for law in self.resampled] or [mid]
        low, high = np.quantile(values, (0.1, 0.9))
        return Interval(min(float(low), mid), mid, max(float(high), mid))


def solve(basis: Basis, y_P: Array, box: Box, weights_P: Array) -> Solution:
    """The shapes within `box` and coefficients of at least 0 with the least sum of squared weighted residuals."""
    target = y_P * weights_P
    low, high = (np.array(side) for side in zip(*box, strict=True))
    edges, best = (low, high), None
    for number in (FIRST, *[POINTS] * (ROUNDS - 1)):
        axes = [np.linspace(a, b, number) for a, b in zip(*edges, strict=True)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
        known_GP, basis_GPC = basis(grid)
        best = _best(grid, basis_GPC * weights_P[:, None], target - known_GP * weights_P)
        reach = (edges[1] - edges[0]) * CLOSER / 2
        edges = (np.maximum(best.shapes - reach, low), np.minimum(best.shapes + reach, high))
    assert best is not None
    return best


def solve_robust(basis: Basis, y_P: Array, box: Box, weights_P: Array) -> Solution:
    """As `solve`, with Huber's loss of the weighted residuals, by iteratively reweighted least squares.

    The residuals' scale is their median absolute value, found anew with every weighting.
    """
    trust_P = np.ones_like(y_P)
    for _ in range(REWEIGHTED):
        scaled = solve(basis, y_P, box, weights_P * np.sqrt(trust_P))
        found = Solution(scaled.shapes, scaled.coefficients, scaled.residuals / np.sqrt(trust_P))
        before, trust_P = trust_P, _trust(found.residuals)
        if np.abs(trust_P - before).max() < SETTLED:
            break
    return found


def _trust(residuals_P: Array) -> Array:
    """Huber's weights: 1 within TUNING standard deviations, and the less the farther beyond."""
    distance = np.abs(residuals_P)
    bound = max(TUNING * DEVIATION * float(np.median(distance)), LEAST_BOUND)
    return np.asarray(bound / np.maximum(distance, bound))


def straight(x_P: Array, y_P: Array, least_spread: float) -> tuple[float, float]:
    """(intercept, slope) by least squares; level where the x lie too close to tell a slope.

    Args:
        least_spread: sum of squared deviations of `x_P` that a slope is read from.
    """
    away = x_P - x_P.mean()
    spread = float((away**2).sum())
    slope = float((away * y_P).sum()) / spread if spread > least_spread else 0.0
    return float(y_P.mean()) - slope * float(x_P.mean()), slope


def bootstrap(fitted: Solution, y_P: Array, weights_P: Array, refit: Callable[[Array], Law], seed: int) -> list[Law]:
    """Laws refitted to the fitted values plus weighted residuals drawn anew (Efron 1979, with a fixed design).

    Residuals are widened by sqrt(P / (P - parameters)), as a fit makes them smaller than the errors were.
    """
    free = max(1, len(y_P) - len(fitted.shapes) - len(fitted.coefficients))
    errors = fitted.residuals * np.sqrt(len(y_P) / free)
    smooth = y_P - fitted.residuals / weights_P
    draw = np.random.default_rng(seed)
    return [refit(smooth + draw.choice(errors, len(errors)) / weights_P) for _ in range(RESAMPLES)]


def _best(grid: Array, basis_GPC: Array, target_GP: Array) -> Solution:
    """The best point of the grid. Where least squares make a coefficient negative, every smaller subset is tried."""
    columns = tuple(range(basis_GPC.shape[2]))
    costs, found = _subset(columns, basis_GPC, target_GP)
    left = np.flatnonzero(~np.isfinite(costs))
    smaller = chain.from_iterable(combinations(columns, size) for size in range(len(columns)))
    for subset in smaller if len(left) else ():
        tried, solved = _subset(subset, basis_GPC[left], target_GP[left])
        better = tried < costs[left]
        costs[left[better]], found[left[better]] = tried[better], solved[better]
    index = int(np.argmin(costs))
    return Solution(grid[index], found[index], target_GP[index] - basis_GPC[index] @ found[index])


def _subset(subset: tuple[int, ...], basis_GPC: Array, target_GP: Array) -> tuple[Array, Array]:
    """Squared residuals and coefficients with the others at 0; infinite where one of the subset comes out negative."""
    found = np.zeros((len(basis_GPC), basis_GPC.shape[2]))
    found[:, list(subset)] = _coefficients(basis_GPC[:, :, list(subset)], target_GP)
    residuals = target_GP - np.einsum("gpc,gc->gp", basis_GPC, found)
    return np.where((found >= 0).all(axis=1), (residuals**2).sum(axis=1), np.inf), found


def _coefficients(basis_GPC: Array, target_GP: Array) -> Array:
    """Linear least squares at every point of the grid; a trace of ridge keeps equal curves solvable."""
    scale = np.sqrt((basis_GPC**2).sum(axis=1)) + SMALLEST
    unit = basis_GPC / scale[:, None, :]
    gram = np.einsum("gpc,gpd->gcd", unit, unit) + SMALLEST * np.eye(basis_GPC.shape[2])
    found = np.linalg.solve(gram, np.einsum("gpc,gp->gc", unit, target_GP)[..., None])[..., 0]
    return np.asarray(found / scale)
