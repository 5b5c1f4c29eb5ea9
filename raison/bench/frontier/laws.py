"""The three laws fitted to the cells of a frontier, and one accuracy made of them.

Training: the loss at the end of the cold start is L = E + A / N^alpha + B / D^beta; accuracy follows the loss by a
logistic curve, as Llama 3 predicts benchmarks (arXiv:2407.21783, section 3.2.1). Runs scatter around the law of the
loss, and where the curve is steep that decides much: what is told is the mean over such runs. Beside it stands a
sigmoid straight over D N^s, as far from convergence a loss falls faster than any power law. Where one of the two tells
the measured accuracies much better it is used; where both tell them about equally well they part only beyond what was
measured, and the lower one counts. Reinforcement: the share of what was
left to gain, (R - R0) / (1 - R0), rises by ScaleRL's sigmoid over the samples drawn, times R0^gamma, as a policy learns
from what it already gets right now and then. Thinking: accuracy over the budget rises by a sigmoid of the same form,
taken relative to the largest budget; among k votes the problems' chances follow a Beta distribution, and a vote is
right where the right answer outweighs the strongest wrong one. Forms, fits and their resampling: plan/laws.py,
plan/coverage.py. Every figure has an 80 % interval over the resampled laws.

Assumed, so that a reader can doubt it: a budget leaves the same share of accuracy to every cell of a grid; problems
spread as their mean accuracy tells, whatever brought it there; seeds of training differ as the residuals do. Not
covered: tasks other than the grid's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from raison.bench.frontier.grid import Selector
from raison.plan.coverage import BetaMixture
from raison.plan.laws import FARTHEST, Chinchilla, Sigmoid
from raison.plan.least_squares import Array

Teller = Literal["loss", "tokens", "both"]
STEEP = 20.0
"""A sigmoid's exponent is fitted from 0.1 to 30; a small loss decides much, so that slopes are 2 to 600 a nat here."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
SCATTER = tuple(zip(_NODES.tolist(), (_WEIGHTS / _WEIGHTS.sum()).tolist(), strict=True))
"""Places in standard deviations of a normal distribution, and their weights."""
LEAST_VOTES = 3
"""From which on the law of votes holds; below it a vote is a single sample."""
MEANS = 21
"""Points of a table of accuracies after a vote."""


@dataclass(frozen=True, slots=True)
class Laws:
    """One possible world: the laws' constants."""

    loss: Chinchilla
    noise: float
    """Standard deviation of a run's loss around `loss`, relative."""
    link: Sigmoid
    """Over exp(-STEEP x loss), which makes it a logistic curve over the loss."""
    grown: Sigmoid
    """pass@1 after the cold start over tokens times N^size_power."""
    size_power: float
    told_by: Teller
    """What accuracy after the cold start is told by: `loss` with `link`, `grown` over tokens, or the lower of both."""
    gain: Sigmoid
    """Share of the headroom that reinforcement closes, over samples times R0^gamma."""
    gamma: float
    thinking: Sigmoid
    """Accuracy over thinking tokens, relative to the largest budget's."""
    spread: tuple[float, float]
    """Intercept and slope of ln(alpha + beta) of the problems' chances over their mean: trained models part them."""
    rival: float
    """Share of samples that the strongest wrong answer has."""
    largest: float
    """The budget that `thinking` is relative to."""
    selector: Selector

    def trained(self, parameters: float, tokens: float) -> float:
        """pass@1 after the cold start, under the largest budget."""
        return self._told(parameters, tokens, self.expected)

    def run(self, parameters: float, tokens: float, luck: float) -> float:
        """The same of one run, whose loss lies so many standard deviations below the law; no law over tokens tells."""
        return self._told(parameters, tokens, lambda loss: self.solved(loss * math.exp(-self.noise * luck)))

    def _told(self, parameters: float, tokens: float, solving: Callable[[float], float]) -> float:
        """By what tells it alone: a split's search asks a hundred thousand times."""
        if self.told_by == "loss":
            return solving(self.loss.loss(parameters, tokens))
        grown = self.grown.value(tokens * parameters**self.size_power)
        return grown if self.told_by == "tokens" else min(grown, solving(self.loss.loss(parameters, tokens)))

    def expected(self, loss: float) -> float:
        """The mean pass@1 of runs whose losses scatter around `loss`, log-normal, by Gauss-Hermite quadrature."""
        return math.fsum(w * self.solved(loss * math.exp(self.noise * z)) for z, w in SCATTER)

    def solved(self, loss: float) -> float:
        """pass@1 at a loss in nats: ceiling / (1 + exp(slope (loss - middle)))."""
        slope, middle = STEEP * self.link.exponent, -math.log(self.link.midpoint) / STEEP
        return self.link.ceiling / (1 + math.exp(min(slope * (loss - middle), FARTHEST)))

    def reinforced(self, start: float, samples: float) -> float:
        """pass@1 after GRPO has drawn so many samples from a model that began at `start`."""
        return start + (1 - start) * self.gain.value(samples * start**self.gamma)

    def kept(self, budget: float) -> float:
        """Share of the accuracy under the largest budget that a smaller one leaves."""
        return min(1.0, self.thinking.value(budget) / max(self.thinking.value(self.largest), 1e-9))

    def chosen(self, single: float, votes: float) -> float:
        """What a vote, or the checker, makes of samples that are right with the chance `single`."""
        single = min(max(single, 1e-4), 1 - 1e-4)
        concentration = math.exp(self.spread[0] + self.spread[1] * single)
        mixture = BetaMixture(single * concentration, (1 - single) * concentration)
        if self.selector == "checker":
            return mixture.coverage(votes)
        return single if votes < LEAST_VOTES else mixture.majority(votes, self.rival)


Vote = dict[int, Callable[[float], float]]
"""Votes -> from the accuracy of a single sample to that of the vote."""


@dataclass(frozen=True, slots=True)
class World:
    """Laws with their votes tabled: a vote costs a sum over thousands of slices."""

    laws: Laws
    vote: Vote

    @classmethod
    def of(cls, laws: Laws, votes: Sequence[int]) -> World:
        means = np.linspace(0.0, 1.0, MEANS)
        tables = {k: np.array([laws.chosen(float(mean), k) for mean in means]) for k in votes}
        return cls(laws, {k: partial(_looked_up, means, tables[k]) for k in votes})


def _looked_up(means: Array, table: Array, single: float) -> float:
    return float(np.interp(single, means, table))
