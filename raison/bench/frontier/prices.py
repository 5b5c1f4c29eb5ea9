"""What each law costs for one size of model, in FLOPs or in dollars, as measured in the grid's own cells.

A token of training, a sample of reinforcement (with the update that it leads to) and an answer have one price for a
size; an answer's is a line in the votes. Not covered: how a price changes with the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np

from raison.bench.frontier.grid import Grid
from raison.bench.frontier.record import Point, Record, Spent
from raison.config import BillSection
from raison.train.bill import charge

Currency = Literal["flops", "usd"]
CURRENCIES: tuple[Currency, ...] = ("flops", "usd")


@dataclass(frozen=True, slots=True)
class Prices:
    """Of one size, in one currency."""

    parameters: float
    token: float
    """Of training."""
    sample: float
    """Of reinforcement."""
    answers: float
    """How many."""
    prompt: float
    """Of one answer, however many samples it is made of."""
    thinking: tuple[tuple[int, float], ...]
    """Of one sample under each budget."""

    def answering(self, budget: float, votes: float) -> float:
        """All answers; between measured budgets in a straight line."""
        each = np.interp(budget, [b for b, _ in self.thinking], [price for _, price in self.thinking])
        return self.answers * (self.prompt + votes * float(each))


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
    last = [r for r in records if r.cell.steps == grid.rl_steps[-1]]
    votes = max(grid.votes)
    thinking = []
    prompts = []
    for budget in grid.budgets:
        pairs = [[_answer(grid, r.at(budget, k), currency) for k in (1, votes)] for r in records]
        each = fmean((many - one) / max(votes - 1, 1) if votes > 1 else one for one, many in pairs)
        thinking.append((budget, each))
        prompts += [one - each for one, _ in pairs]
    return Prices(
        parameters=trained[0].parameters,
        token=_mean_price(grid, [r.training for r in trained], currency),
        sample=_mean_price(grid, [r.reinforcement for r in last], currency),
        answers=grid.answers,
        prompt=max(0.0, fmean(prompts)),
        thinking=tuple(thinking),
    )


def _answer(grid: Grid, point: Point, currency: Currency) -> float:
    return point.flops if currency == "flops" else usd(grid.bill, point.seconds)


def _mean_price(grid: Grid, spent: Sequence[Spent], currency: Currency) -> float:
    return sum(price(grid.bill, one, currency) for one in spent) / sum(one.units for one in spent)
