"""The law of the answer's time: how often at least one of k samples is right, and what a vote makes of them.

Problems differ: each has its own chance p of a right sample, and p follows a Beta distribution. Then coverage (pass@k,
the selector of an oracle) is 1 - E[(1 - p)^k], which never leaves [0, 1] and needs no rule for where it stops to hold,
unlike the power law c(k) = exp(a k^b) (Brown et al., arXiv:2407.21787, section 3.1). A vote is right where the right
answer outweighs the strongest wrong one, whose share is one number, `rival`. Not covered: samples that depend on each
other, verifiers that err.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erf, exp, lgamma, sqrt

import numpy as np

from raison.errors import UserError
from raison.plan.least_squares import RESAMPLES, Array, Fit

GRID = 41
"""Points of the grid over a Beta distribution's mean and concentration."""
SLICES = 2000
"""Slices of p that an expectation is summed over."""


@dataclass(frozen=True, slots=True)
class BetaMixture:
    """Each problem's chance of a right sample follows Beta(alpha, beta)."""

    alpha: float
    beta: float

    @property
    def mean(self) -> float:
        """pass@1."""
        return self.alpha / (self.alpha + self.beta)

    def coverage(self, k: float) -> float:
        """1 - E[(1 - p)^k]: at least one of k samples is right."""
        a, b = self.alpha, self.beta
        return 1 - exp(lgamma(b + k) - lgamma(b) + lgamma(a + b) - lgamma(a + b + k))

    def majority(self, k: float, rival: float) -> float:
        """A vote over k samples is right, where the strongest wrong answer has the share `rival` of the samples.

        Of each problem the chance that right samples are more than that share of k, by a normal approximation. With
        k of 1 this is not pass@1, as one sample cannot be outvoted: the law is for votes of 3 and more.
        """
        p = (np.arange(SLICES) + 0.5) / SLICES
        margin = (p - rival) / np.sqrt(p * (1 - p) / k)
        wins = np.array([(1 + erf(value / sqrt(2))) / 2 for value in margin])
        weights = np.exp((self.alpha - 1) * np.log(p) + (self.beta - 1) * np.log1p(-p))
        return float((wins * weights).sum() / weights.sum())


def fit_mixture(right: Sequence[int], samples: Sequence[int], *, seed: int = 0) -> Fit[BetaMixture]:
    """The Beta distribution under which what was counted is likeliest; intervals from problems drawn anew.

    Args:
        right, samples: of each problem, how many samples were right, and how many were drawn. At least 2 problems.

    `rms` is of pass@1 problem by problem, which the law does not try to tell.
    """
    n_P, s_P = np.asarray(samples, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if len(n_P) != len(s_P) or len(n_P) < 2 or (s_P < 0).any() or (s_P > n_P).any() or (n_P < 1).any():
        raise UserError("a mixture needs at least 2 problems, each with 0 to `samples` right samples")
    likelihood_GP, laws = _likelihoods(s_P, n_P)
    draw = np.random.default_rng(seed)
    counts_BP = draw.multinomial(len(n_P), np.full(len(n_P), 1 / len(n_P)), size=RESAMPLES)
    best_B = np.argmax(likelihood_GP @ counts_BP.T, axis=0)
    law = laws[int(np.argmax(likelihood_GP.sum(axis=1)))]
    return Fit.of(law, [laws[int(index)] for index in best_B], s_P / n_P - law.mean)


def _likelihoods(s_P: Array, n_P: Array) -> tuple[Array, list[BetaMixture]]:
    """Beta-binomial log-likelihood of each problem under each law of a grid over mean and concentration."""
    means = (1 / (1 + np.exp(-np.linspace(-9, 9, 4 * GRID)))).tolist()
    sizes = np.geomspace(0.02, 200, GRID).tolist()
    laws = [BetaMixture(mean * size, (1 - mean) * size) for mean in means for size in sizes]
    pairs, index = np.unique(np.stack([s_P, n_P]), axis=1, return_inverse=True)
    table = np.array([[_beta_binomial(law, s, n) for s, n in pairs.T] for law in laws])
    return table[:, index.reshape(-1)], laws


def _beta_binomial(law: BetaMixture, right: float, samples: float) -> float:
    a, b = law.alpha, law.beta
    return (
        lgamma(a + right) + lgamma(b + samples - right) - lgamma(a + b + samples)
        - lgamma(a) - lgamma(b) + lgamma(a + b)
    )  # fmt: skip
