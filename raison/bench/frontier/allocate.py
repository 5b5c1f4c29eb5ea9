"""The best split of a budget between training, reinforcement and thinking, by the fitted laws.

Every size, thinking budget and number of votes is tried; what answering leaves is shared between training tokens and
GRPO samples on a grid of shares, within a stated multiple of what was measured. The same is done for each resampled
law, which gives the split its interval. Not covered: laws that are wrong in the same way in every resample; check.py
is for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from raison.bench.frontier.grid import Grid
from raison.bench.frontier.laws import Laws, World
from raison.bench.frontier.prices import Prices

Law = Literal["training", "reinforcement", "thinking"]
LAWS: tuple[Law, ...] = ("training", "reinforcement", "thinking")
SHARES = 25
MORE = 0.1
"""Of the budget: the next dollar, in a size that the laws can tell apart."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a split may ask for."""

    tokens: tuple[float, float]
    samples: float
    """Of GRPO, at most."""
    budgets: tuple[int, ...]
    votes: tuple[int, ...]

    @classmethod
    def of(cls, grid: Grid) -> Bounds:
        most = grid.most_tokens_times
        per_step = grid.grpo.problems * grid.grpo.group_size
        return cls(
            (grid.tokens[0], most * grid.tokens[-1]), most * grid.rl_steps[-1] * per_step, grid.budgets,
            tuple(sorted({1, *grid.votes})),
        )  # fmt: skip

    def only(self, law: Law) -> Bounds:
        """All on one law: the others at the least that the grid measured, one sample that may think to its end."""
        tokens = self.tokens if law == "training" else (self.tokens[0], self.tokens[0])
        samples = self.samples if law == "reinforcement" else 0.0
        if law == "thinking":
            return Bounds(tokens, samples, self.budgets, self.votes)
        return Bounds(tokens, samples, self.budgets[-1:], (1,))


@dataclass(frozen=True, slots=True)
class Split:
    """A way to spend a budget; costs are in its currency."""

    size: str
    tokens: float
    samples: float
    budget: int
    votes: int
    training: float
    reinforcement: float
    thinking: float
    accuracy: float
    """By the laws that it was found with."""

    @property
    def cost(self) -> float:
        return self.training + self.reinforcement + self.thinking

    def share(self, law: Law) -> float:
        return float(getattr(self, law)) / self.cost


@dataclass(frozen=True, slots=True)
class Range:
    """A figure with its 80 % interval over resampled laws."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The split of best fit, and how much of it the measurements leave open."""

    total: float
    split: Split
    shares: dict[Law, Range]
    accuracy: Range
    """Of this very split."""
    sizes: dict[str, float]
    """How often each size is the best, over resampled laws."""
    next_dollar: dict[Law, Range]
    """Gain in accuracy where MORE of the budget is spent on one law alone."""


def recommend(
    worlds: Sequence[World], prices: Mapping[str, Prices], total: float, bounds: Bounds
) -> Recommendation | None:
    """The first of `worlds` is the best fit, the others are resampled.

    None where the budget does not even pay for the smallest model and its answers.
    """
    found = [best(world, prices, total, bounds) for world in worlds]
    split = found[0]
    if split is None:
        return None
    others = [other for other in found[1:] if other is not None] or [split]
    sizes = {name: sum(other.size == name for other in others) / len(others) for name in prices}
    nexts = {
        law: [_gain(world.laws, prices[split.size], split, law, total, bounds) for world in worlds] for law in LAWS
    }
    return Recommendation(
        total, split,
        {law: _range(split.share(law), [other.share(law) for other in others]) for law in LAWS},
        _range(split.accuracy, [predicted(world.laws, prices[split.size], split) for world in worlds[1:]]),
        sizes, {law: _range(values[0], values[1:]) for law, values in nexts.items()},
    )  # fmt: skip


def best(world: World, prices: Mapping[str, Prices], total: float, bounds: Bounds) -> Split | None:
    """The affordable split of the highest accuracy; of equals the cheapest."""
    found = [split for size in prices for split in _affordable(world, size, prices[size], total, bounds)]
    return max(found, key=lambda split: (round(split.accuracy, 6), -split.cost), default=None)


def _affordable(world: World, size: str, costs: Prices, total: float, bounds: Bounds) -> Iterator[Split]:
    laws = world.laws
    for budget, votes in product(bounds.budgets, bounds.votes):
        kept, thinking = laws.kept(budget), costs.answering(budget, votes)
        for tokens, samples in _trainings(costs, total - thinking, bounds):
            single = kept * laws.reinforced(laws.trained(costs.parameters, tokens), samples)
            spent = tokens * costs.token, samples * costs.sample, thinking
            yield Split(size, tokens, samples, budget, votes, *spent, world.vote[votes](single))


def predicted(laws: Laws, costs: Prices, split: Split) -> float:
    """The accuracy of a split under other laws."""
    single = laws.reinforced(laws.trained(costs.parameters, split.tokens), split.samples)
    return laws.chosen(laws.kept(split.budget) * single, split.votes)


def _trainings(costs: Prices, left: float, bounds: Bounds) -> list[tuple[float, float]]:
    """Tokens and GRPO samples that the money left can buy, over shares for the latter."""
    least, most = bounds.tokens
    spare = left - least * costs.token
    if spare < 0:
        return []
    found = []
    for share in np.linspace(0.0, 1.0, SHARES) if bounds.samples else (0.0,):
        samples = min(share * spare / costs.sample, bounds.samples)
        found.append((min(most, least + (1 - share) * spare / costs.token), float(samples)))
    return found


def _gain(laws: Laws, costs: Prices, split: Split, law: Law, total: float, bounds: Bounds) -> float:
    """What MORE of `total` on one law adds; nothing beyond the bounds of what can be told."""
    more = MORE * total
    tokens, samples, votes = split.tokens, split.samples, float(split.votes)
    if law == "training":
        tokens = min(tokens + more / costs.token, bounds.tokens[1])
    elif law == "reinforcement":
        samples = min(samples + more / costs.sample, bounds.samples)
    else:
        each = costs.answering(split.budget, 2) - costs.answering(split.budget, 1)
        votes = min(votes + more / each, float(bounds.votes[-1]))
    single = laws.kept(split.budget) * laws.reinforced(laws.trained(costs.parameters, tokens), samples)
    return laws.chosen(single, votes) - predicted(laws, costs, split)


def _range(value: float, resampled: Sequence[float]) -> Range:
    low, high = np.quantile(resampled or [value], (0.1, 0.9))
    return Range(value, min(float(low), value), max(float(high), value))
