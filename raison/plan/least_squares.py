"""Least squares for laws with few shape parameters, and intervals from a bootstrap: what the laws are fitted by.

Every law here is a sum of non-negative coefficients times curves whose shape has one or two parameters, such as
E + A N^-a + B D^-b. For given shapes the coefficients are linear least squares, solved exactly (variable projection,
Golub and Pereyra 1973); the shapes are found on a grid that closes in on its best point, so that no starting value
matters. Not covered: more than two shapes, weights that depend on the fit.

G points of the grid, P measurements, C coefficients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from raison.plan.interval import Interval

Array = NDArray[np.float64]
Basis = Callable[[Array], tuple[Array, Array]]
"""Shapes (G, 1 or 2) -> at the measured points, what needs no coefficient (G, P), and the curves that do (G, P, C)."""
Box = Sequence[tuple[float, float]]
"""Lowest and highest value of each shape."""

FIRST, POINTS, ROUNDS, CLOSER = 31, 9, 7, 0.35
"""Points on each axis of the first grid, fine enough for a steep curve, and of the closer ones; how many grids; and to
what share of its width each closes in."""
RESAMPLES = 100
SMALLEST = 1e-12

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
    points: int

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
        grid = np.array(list(product(*(np.linspace(a, b, number) for a, b in zip(*edges, strict=True)))))
        known_GP, basis_GPC = basis(grid)
        best = _best(grid, basis_GPC * weights_P[:, None], target - known_GP * weights_P)
        reach = (edges[1] - edges[0]) * CLOSER / 2
        edges = (np.maximum(best.shapes - reach, low), np.minimum(best.shapes + reach, high))
    assert best is not None
    return best


def bootstrap(fitted: Solution, y_P: Array, weights_P: Array, refit: Callable[[Array], Law], seed: int) -> list[Law]:
    """Laws refitted to the fitted values plus residuals drawn anew (Efron 1979, with a fixed design).

    Residuals are widened by sqrt(P / (P - parameters)), as a fit makes them smaller than the errors were.
    """
    free = max(1, len(y_P) - len(fitted.shapes) - len(fitted.coefficients))
    errors = fitted.residuals * np.sqrt(len(y_P) / free) / weights_P
    smooth = y_P - fitted.residuals / weights_P
    draw = np.random.default_rng(seed)
    return [refit(smooth + draw.choice(errors, len(errors))) for _ in range(RESAMPLES)]


def _best(grid: Array, basis_GPC: Array, target_GP: Array) -> Solution:
    """The best point of the grid, over every subset of coefficients that may be above 0."""
    columns = range(basis_GPC.shape[2])
    best, cost = None, np.inf
    for subset in chain.from_iterable(combinations(columns, size) for size in range(len(columns) + 1)):
        kept = basis_GPC[:, :, list(subset)]
        found = _coefficients(kept, target_GP)
        residuals = target_GP - np.einsum("gpc,gc->gp", kept, found)
        costs = np.where((found >= 0).all(axis=1), (residuals**2).sum(axis=1), np.inf)
        index = int(np.argmin(costs))
        if best is None or costs[index] < cost:
            full = np.zeros(len(columns))
            full[list(subset)] = found[index]
            best, cost = Solution(grid[index], full, residuals[index]), costs[index]
    assert best is not None
    return best


def _coefficients(basis_GPC: Array, target_GP: Array) -> Array:
    """Linear least squares at every point of the grid; a trace of ridge keeps equal curves solvable."""
    scale = np.sqrt((basis_GPC**2).sum(axis=1)) + SMALLEST
    unit = basis_GPC / scale[:, None, :]
    gram = np.einsum("gpc,gpd->gcd", unit, unit) + SMALLEST * np.eye(basis_GPC.shape[2])
    found = np.linalg.solve(gram, np.einsum("gpc,gp->gc", unit, target_GP)[..., None])[..., 0]
    return np.asarray(found / scale)
