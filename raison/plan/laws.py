"""The laws of pre-training and of reinforcement learning: how much better more computing makes a model.

Pre-training: loss L = E + A / N^alpha + B / D^beta (Hoffmann et al., arXiv:2203.15556, eq. 2), N parameters, D tokens.
RL: R = R0 + (A - R0) / (1 + (C_mid / C)^B) over computing C (ScaleRL, arXiv:2510.13786, eq. 1). Its constants are not
published in a form that could be read: there are none here, only the fit. It serves for any accuracy that saturates
over computing, thinking budgets too. Laws of the answer's time are coverage.py. A mixture of experts counts by its
activated parameters, which is an assumption. Not covered: how good a loss is at a task.

The fits are pure: the same measurements and seed give the same fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from raison.errors import UserError
from raison.plan.least_squares import Array, Fit, Solution, bootstrap, solve_robust

FLOPS_A_PARAMETER = 6
"""FLOPs of training for a parameter and a token (Kaplan et al., arXiv:2001.08361, section 2.1)."""


FARTHEST = 700.0
"""Before an exponential leaves what a float holds."""
STEEPEST = 30.0
"""Exponent of a sigmoid at most: from a tenth to nine tenths within a factor of 1.16."""


@dataclass(frozen=True, slots=True)
class Chinchilla:
    """L(N, D) = E + A / N^alpha + B / D^beta, in nats a token."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        return float(self.E + self.A / parameters**self.alpha + self.B / tokens**self.beta)

    def optimum(self, flops: float) -> tuple[float, float]:
        """(parameters, tokens) of the least loss at a budget of 6 N D = `flops` (arXiv:2203.15556, eq. 4)."""
        a = self.beta / (self.alpha + self.beta)
        ratio = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        parameters = ratio * (flops / FLOPS_A_PARAMETER) ** a
        return parameters, flops / FLOPS_A_PARAMETER / parameters


EPOCH_REFIT = Chinchilla(E=1.81686, A=482.00572, B=2085.43420, alpha=0.34781, beta=0.36585)
"""Chinchilla's data fitted again, as the printed constants are rounded and biased (Besiroglu et al., arXiv:2404.10102;
epoch-research/analyzing-chinchilla, data_analysis.ipynb, 2024-05)."""


def batch_tokens(flops: float) -> float:
    """Tokens of the best batch for a training budget: B = 0.2920 C^0.3271 (DeepSeek LLM, arXiv:2401.02954, eq. 1)."""
    return float(0.2920 * flops**0.3271)


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """R(C) = start + (ceiling - start) / (1 + (midpoint / C)^exponent)."""

    start: float
    """R0, before any computing."""
    ceiling: float
    """A, what no computing gets over."""
    midpoint: float
    """C_mid, the computing of half the gain, in the units of C."""
    exponent: float
    """B, the steepness: above 0."""

    def value(self, compute: float) -> float:
        """R at `compute`, which is 0 or more."""
        if compute <= 0:
            return self.start
        return self.start + (self.ceiling - self.start) / (1 + self._ratio(compute))

    def slope(self, compute: float) -> float:
        """dR/dC: what the next unit of computing buys; `compute` is above 0."""
        ratio = self._ratio(compute)
        return float((self.ceiling - self.start) * self.exponent / (compute * (1 + ratio) * (1 + 1 / ratio)))

    def _ratio(self, compute: float) -> float:
        """(C_mid / C)^B, kept within what a float holds."""
        power = self.exponent * math.log(self.midpoint / compute)
        return math.exp(min(max(power, -FARTHEST), FARTHEST))


def fit_chinchilla(
    parameters: Sequence[float], tokens: Sequence[float], losses: Sequence[float], *, seed: int = 0
) -> Fit[Chinchilla]:
    """The law through measured losses, by Huber's loss of relative errors, E, A and B at least 0.

    Args:
        parameters, tokens, losses: one entry for each run; losses in nats, above 0. At least 6 runs.
    """
    n_P, d_P, y_P = _columns(6, parameters, tokens, losses)
    if (y_P <= 0).any():
        raise UserError("a loss is not above 0; the law is fitted to relative errors")
    fit = partial(_solve_chinchilla, n_P, d_P)
    fitted = fit(y_P)
    again = bootstrap(fitted, y_P, 1 / y_P, lambda drawn: _chinchilla(fit(drawn), n_P, d_P), seed)
    return Fit.of(_chinchilla(fitted, n_P, d_P), again, fitted.residuals)


def fit_sigmoid(
    compute: Sequence[float], values: Sequence[float], *, start: float | None = None, most: float = 1.0,
    weights: Sequence[float] | None = None, seed: int = 0,
) -> Fit[Sigmoid]:  # fmt: skip
    """The saturating curve through measured accuracies or rewards, by Huber's loss.

    Args:
        compute: above 0, in any unit (FLOPs, steps, dollars, tokens of thinking); the midpoint comes in the same.
        values: one for each, at least 4, or 3 where the start is given.
        start: the value before any computing, where it was measured; None fits it.
        most: what the ceiling may not pass, 1 for an accuracy.
        weights: above 0, what each error is multiplied by; the residuals of the fit are, too.
    """
    c_P, w_P, y_P = _columns(4 if start is None else 3, compute, weights or [1.0] * len(values), values)
    fit = partial(_solve_sigmoid, np.log(c_P), start, most, w_P)
    fitted = fit(y_P)
    again = bootstrap(fitted, y_P, w_P, lambda drawn: _sigmoid(fit(drawn)), seed)
    return Fit.of(_sigmoid(fitted), again, fitted.residuals)


def _solve_chinchilla(n_P: Array, d_P: Array, y_P: Array) -> Solution:
    """Around the geometric means of N and D, so that coefficients are of one size."""
    n, d = np.log(n_P / _centre(n_P)), np.log(d_P / _centre(d_P))

    def basis(shapes: Array) -> tuple[Array, Array]:
        ones = np.ones((len(shapes), len(n)))
        return 0 * ones, np.stack([ones, np.exp(-shapes[:, :1] * n), np.exp(-shapes[:, 1:] * d)], axis=2)

    return solve_robust(basis, y_P, ((0.05, 1.5), (0.05, 1.5)), 1 / y_P)


def _chinchilla(solution: Solution, n_P: Array, d_P: Array) -> Chinchilla:
    alpha, beta = (float(shape) for shape in solution.shapes)
    E, a, b = (float(value) for value in solution.coefficients)
    return Chinchilla(E, a * _centre(n_P) ** alpha, b * _centre(d_P) ** beta, alpha, beta)


def _solve_sigmoid(c_P: Array, start: float | None, most: float, w_P: Array, y_P: Array) -> Solution:
    """R = start (1 - s) + ceiling s, the ceiling held at `most` where it would pass it; `c_P` are logarithms."""
    free = _solve_ends(c_P, (start, None), w_P, y_P)
    return free if free.coefficients[1] <= most else _solve_ends(c_P, (start, most), w_P, y_P)


def _solve_ends(c_P: Array, ends: tuple[float | None, float | None], w_P: Array, y_P: Array) -> Solution:
    """Shapes ln C_mid, which may lie as far outside as the measurements are wide, and ln B; ends where not given."""
    width = max(float(c_P.max() - c_P.min()), 1.0)
    box = ((float(c_P.min()) - width, float(c_P.max()) + width), (np.log(0.1), np.log(STEEPEST)))
    given = np.array([end or 0.0 for end in ends])
    free = [index for index, end in enumerate(ends) if end is None]

    def basis(shapes: Array) -> tuple[Array, Array]:
        gained = 1 / (1 + np.exp(np.exp(shapes[:, 1:]) * (shapes[:, :1] - c_P)))
        both = np.stack([1 - gained, gained], axis=2)
        return both @ given, both[:, :, free]

    solution = solve_robust(basis, y_P, box, w_P)
    given[free] = solution.coefficients
    return Solution(solution.shapes, given, solution.residuals)


def _sigmoid(solution: Solution) -> Sigmoid:
    start, ceiling = (float(value) for value in solution.coefficients)
    midpoint, exponent = (float(value) for value in np.exp(solution.shapes))
    return Sigmoid(start, ceiling, midpoint, exponent)


def _centre(values: Array) -> float:
    return float(np.exp(np.log(values).mean()))


def _columns(least: int, *columns: Sequence[float]) -> tuple[Array, ...]:
    lengths = {len(column) for column in columns}
    if len(lengths) != 1 or min(lengths) < least:
        raise UserError(f"a fit needs at least {least} measurements in columns of one length; there are {lengths}")
    arrays = tuple(np.asarray(column, dtype=np.float64) for column in columns)
    if any((column <= 0).any() for column in arrays[:-1]) or not all(np.isfinite(column).all() for column in arrays):
        raise UserError("sizes and computing must be finite and above 0, and values finite")
    return arrays
