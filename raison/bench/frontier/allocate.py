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
from raison.plan.interval import Z80

Law = Literal["training", "reinforcement", "thinking"]
LAWS: tuple[Law, ...] = ("training", "reinforcement", "thinking")
SHARES = 25
SETTLING = 3
"""Rounds in which the price of an answer and the accuracy that it depends on find each other; odd, see `_Purse`."""
ROUNDING = 1e-9
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
    """Of this very split, the mean over runs of training."""
    runs: Range
    """The same of a single run, by the best fit; its 80 % interval is over how runs scatter."""
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
    costs = prices[split.size]
    gains = {law: [_gain(world.laws, costs, split, law, total, bounds) for world in worlds] for law in LAWS}
    return Recommendation(
        total=total,
        split=split,
        shares={law: _range(split.share(law), [other.share(law) for other in others]) for law in LAWS},
        accuracy=_range(split.accuracy, [predicted(world.laws, costs, split) for world in worlds[1:]]),
        runs=_scatter(worlds[0].laws, costs, split),
        sizes={name: sum(other.size == name for other in others) / len(others) for name in prices},
        next_dollar={law: _range(values[0], values[1:]) for law, values in gains.items()},
    )


def best(world: World, prices: Mapping[str, Prices], total: float, bounds: Bounds) -> Split | None:
    """The affordable split of the highest accuracy; of equals the cheapest."""
    found = [split for size in prices for split in _Purse(world, size, prices[size], total, bounds).affordable()]
    return max(found, key=lambda split: (round(split.accuracy, 6), -split.cost), default=None)


@dataclass(frozen=True, slots=True)
class _Purse:
    """A budget to spend on one size."""

    world: World
    size: str
    costs: Prices
    total: float
    bounds: Bounds

    def affordable(self) -> Iterator[Split]:
        for budget, votes in product(self.bounds.budgets, self.bounds.votes):
            for share in np.linspace(0.0, 1.0, SHARES) if self.bounds.samples else (0.0,):
                split = self._within(budget, votes, float(share))
                if split is not None:
                    yield split

    def _within(self, budget: int, votes: int, share: float) -> Split | None:
        """What answering leaves, `share` of it on reinforcement; None where it does not pay for the least training.

        A better model thinks at another price. The first round sets the highest aside, so that the price found is no
        higher; the second may set too little aside; the third sets aside what a better model costs, which is enough.
        """
        laws, thinking = self.world.laws, self.costs.dearest(budget, votes)
        for _ in range(SETTLING):
            tokens, start, samples = self._trained(self.total - thinking, share)
            reinforced = laws.reinforced(start, samples)
            thinking = self.costs.answering(budget, votes, reinforced)
        spent = tokens * self.costs.token, samples * self.costs.sample.at(start), thinking
        accuracy = self.world.vote[votes](laws.kept(budget) * reinforced)
        split = Split(self.size, tokens, samples, budget, votes, *spent, accuracy)
        return split if split.cost <= self.total * (1 + ROUNDING) else None

    def _trained(self, left: float, share: float) -> tuple[float, float, float]:
        """Tokens, the least or more; what a model of them solves; GRPO samples that `share` of the rest buys."""
        (least, most), costs = self.bounds.tokens, self.costs
        spare = max(0.0, left - least * costs.token)
        tokens = min(most, least + (1 - share) * spare / costs.token)
        start = self.world.laws.trained(costs.parameters, tokens)
        return tokens, start, min(share * spare / costs.sample.at(start), self.bounds.samples)


def predicted(laws: Laws, costs: Prices, split: Split) -> float:
    """The accuracy of a split under other laws."""
    return _finished(laws, split, laws.trained(costs.parameters, split.tokens))


def _scatter(laws: Laws, costs: Prices, split: Split) -> Range:
    """Of single runs; where scatter is on the steep part of a curve their mean may lie outside."""
    low, high = (_finished(laws, split, laws.run(costs.parameters, split.tokens, luck)) for luck in (-Z80, Z80))
    return Range(split.accuracy, min(low, split.accuracy), max(high, split.accuracy))


def _finished(laws: Laws, split: Split, trained: float) -> float:
    """What reinforcement and thinking make of a trained model."""
    return laws.chosen(laws.kept(split.budget) * laws.reinforced(trained, split.samples), split.votes)


def _gain(laws: Laws, costs: Prices, split: Split, law: Law, total: float, bounds: Bounds) -> float:
    """What MORE of `total` on one law adds; nothing beyond the bounds of what can be told."""
    more = MORE * total
    tokens, samples, votes = split.tokens, split.samples, float(split.votes)
    start = laws.trained(costs.parameters, tokens)
    if law == "training":
        tokens = min(tokens + more / costs.token, bounds.tokens[1])
    elif law == "reinforcement":
        samples = min(samples + more / costs.sample.at(start), bounds.samples)
    else:
        single = laws.reinforced(start, samples)
        each = costs.answering(split.budget, 2, single) - costs.answering(split.budget, 1, single)
        votes = min(votes + more / each, float(bounds.votes[-1]))
    single = laws.kept(split.budget) * laws.reinforced(laws.trained(costs.parameters, tokens), samples)
    return laws.chosen(single, votes) - predicted(laws, costs, split)


def _range(value: float, resampled: Sequence[float]) -> Range:
    low, high = np.quantile(resampled or [value], (0.1, 0.9))
    return Range(value, min(float(low), value), max(float(high), value))
