"""What each law costs for one size of model, in FLOPs or in dollars, as measured in the grid's own cells.

A token of training has one price for a size. A sample, of reinforcement (with the update that it leads to) or of an
answer, has a line over pass@1, as models that have not learned stop after a few tokens; an answer's price is a line in
the votes too. Not covered: how a price changes with the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np

from raison.bench.frontier.grid import Grid
from raison.bench.frontier.record import Point, Record, Spent
from raison.config import BillSection
from raison.plan.least_squares import straight
from raison.train.bill import charge

Currency = Literal["flops", "usd"]
CURRENCIES: tuple[Currency, ...] = ("flops", "usd")


LEAST_SPREAD = 0.05
"""Sum of squared deviations of accuracies over which a slope is read, of prices and of how problems spread."""


@dataclass(frozen=True, slots=True)
class Line:
    """A price over pass@1, which never leaves what was paid."""

    intercept: float
    slope: float
    low: float
    high: float

    @classmethod
    def through(cls, accuracies: Sequence[float], paid: Sequence[float]) -> Line:
        return cls(*straight(np.array(accuracies), np.array(paid), LEAST_SPREAD), min(paid), max(paid))

    def at(self, accuracy: float) -> float:
        return min(max(self.intercept + self.slope * accuracy, self.low), self.high)


@dataclass(frozen=True, slots=True)
class Prices:
    """Of one size, in one currency."""

    parameters: float
    token: float
    """Of training."""
    sample: Line
    """Of reinforcement, over what the model solves before it."""
    answers: float
    """How many."""
    prompt: float
    """Of one answer, however many samples it is made of."""
    thinking: Mapping[int, Line]
    """Of one sample under each budget of the grid, over what the model solves under the largest."""

    def answering(self, budget: int, votes: float, accuracy: float) -> float:
        """All answers of a model of this pass@1."""
        return self.answers * (self.prompt + votes * self.thinking[budget].at(accuracy))

    def dearest(self, budget: int, votes: float) -> float:
        """All answers, of whatever model they cost most."""
        return max(self.answering(budget, votes, accuracy) for accuracy in (0.0, 1.0))


def prices_of(grid: Grid, records: Sequence[Record], currency: Currency) -> dict[str, Prices]:
    """By size."""
    return {
        size.name: _prices(grid, [r for r in records if r.cell.size == size.name], currency) for size in grid.sizes
    }  # fmt: skip


def total(grid: Grid, record: Record, point: Point, currency: Currency) -> float:
    """Training, reinforcement and all answers of one way of answering."""
    spent = sum(price(grid.bill, one, currency) for one in (record.training, record.reinforcement))
    return spent + grid.answers * (point.flops if currency == "flops" else usd(grid.bill, point.seconds))


def price(bill: BillSection, spent: Spent, currency: Currency) -> float:
    return spent.flops if currency == "flops" else usd(bill, spent.seconds)


def usd(bill: BillSection, seconds: float) -> float:
    return charge(seconds, bill.watts, bill.usd_per_kwh, bill.usd_per_hour).usd


def _prices(grid: Grid, records: Sequence[Record], currency: Currency) -> Prices:
    trained = [r for r in records if not r.cell.steps]
    prompts, thinking = list[float](), dict[int, Line]()
    for budget in grid.budgets:
        pairs = [_answer(grid, record, budget, currency) for record in records]
        prompts += [prompt for prompt, _ in pairs]
        thinking[budget] = Line.through([_single(r) for r in records], [each for _, each in pairs])
    return Prices(
        parameters=trained[0].parameters,
        token=_mean_price(grid, [r.training for r in trained], currency),
        sample=_reinforcing(grid, records, currency),
        answers=grid.answers,
        prompt=max(0.0, fmean(prompts)),
        thinking=thinking,
    )


def _reinforcing(grid: Grid, records: Sequence[Record], currency: Currency) -> Line:
    """Whole chains, over what their models solved at the start."""
    starts = {r.cell.tokens: _single(r) for r in records if not r.cell.steps}
    last = [r for r in records if r.cell.steps == grid.rl_steps[-1]]
    paid = [_mean_price(grid, [r.reinforcement], currency) for r in last]
    return Line.through([starts[r.cell.tokens] for r in last], paid)


def _answer(grid: Grid, record: Record, budget: int, currency: Currency) -> tuple[float, float]:
    """Of one answer: the prompt, and each sample."""
    votes = max(grid.votes)
    one, many = (
        point.flops if currency == "flops" else usd(grid.bill, point.seconds)
        for point in (record.at(budget, 1), record.at(budget, votes))
    )
    each = (many - one) / (votes - 1) if votes > 1 else one
    return one - each, each


def _single(record: Record) -> float:
    return record.best_single.accuracy.value


def _mean_price(grid: Grid, spent: Sequence[Spent], currency: Currency) -> float:
    return sum(price(grid.bill, one, currency) for one in spent) / sum(one.units for one in spent)
