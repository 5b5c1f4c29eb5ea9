"""What a cell keeps: its training's cost, and its accuracy at every budget and vote. Plain data, to JSON and back.

Not covered: how it was measured (run.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from raison.bench.accuracy import Sheet
from raison.bench.frontier.cells import Cell
from raison.bench.frontier.grid import Grid, Selector
from raison.bench.frontier.sharing import Shared
from raison.bench.intervals import clustered
from raison.bench.score import majorities, rights
from raison.errors import UserError
from raison.files import write_atomic
from raison.model import cost
from raison.model.spec import ModelSpec
from raison.think.measure import Estimate, pass_at_k

FILE = "measured.json"


@dataclass(frozen=True, slots=True)
class Spent:
    """Of pre-training and cold start, or of reinforcement; of a chain, all up to the cell."""

    units: float
    """Tokens trained on, or samples drawn for GRPO."""
    flops: float
    seconds: float

    def plus(self, other: Spent) -> Spent:
        return Spent(self.units + other.units, self.flops + other.flops, self.seconds + other.seconds)


NOTHING = Spent(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Point:
    """One way of answering with the cell's model."""

    budget: int
    votes: int
    accuracy: Estimate
    """By the grid's selector: a vote, or the checker, for which one right sample is enough."""
    each: tuple[float, ...]
    """The same of each problem alone, so that models compare in pairs."""
    tokens: float
    """Sampled for one answer, all votes."""
    flops: float
    """Of one answer, its prompt included."""
    seconds: float
    """Of one answer, on an engine that answers many at once."""


@dataclass(frozen=True, slots=True)
class Record:
    cell: Cell
    parameters: int
    """Activated ones, without the embedding."""
    loss: float
    """Next-token loss in nats at the end of the cold start; a reinforced cell has its chain's."""
    training: Spent
    reinforcement: Spent
    points: tuple[Point, ...]
    right: tuple[int, ...]
    """Of each problem, how many samples were right under the largest budget."""
    samples: int
    model_sha256: str
    problems_sha256: str
    date: str
    seconds: float
    """Of the process that ended the cell, measuring included; what an earlier one did of it is not counted."""

    def at(self, budget: int, votes: int) -> Point:
        return next(p for p in self.points if (p.budget, p.votes) == (budget, votes))

    @property
    def best_single(self) -> Point:
        """One sample under the largest budget."""
        return self.at(max(p.budget for p in self.points), 1)


def points_of(grid: Grid, spec: ModelSpec, shared: Shared) -> tuple[Point, ...]:
    return tuple(_point(grid, spec, shared, budget, k) for budget in grid.budgets for k in sorted({1, *grid.votes}))


def _point(grid: Grid, spec: ModelSpec, shared: Shared, budget: int, k: int) -> Point:
    sheet = shared.sheets[budget]
    sampled = fmean(sample.tokens for row in sheet for sample in row)
    context = int(shared.prompt_tokens + sampled / 2)
    prompt = shared.prompt_tokens * cost.forward_flops(spec, int(shared.prompt_tokens))
    each = _selected(sheet, k, grid.selector)
    return Point(
        budget, k, clustered(each, len(sheet[0]) // k), tuple(round(value, 4) for value in each),
        k * sampled, prompt + k * sampled * cost.decode_flops(spec, context), k * sampled * shared.seconds_per_token,
    )  # fmt: skip


def _selected(sheet: Sheet, k: int, selector: Selector) -> list[float]:
    if k == 1:
        return rights(sheet)
    if selector == "majority":
        return majorities(sheet, k)
    return [pass_at_k(len(row), sum(sample.correct for sample in row), k) for row in sheet]


def write(folder: Path, record: Record) -> None:
    write_atomic(folder / FILE, json.dumps(asdict(record), indent=1).encode())


def read(folder: Path) -> Record | None:
    """None where the cell is not measured yet. Raises UserError where its record is damaged."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return from_row(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path} is damaged; remove its folder, and the cell is made again") from None


def from_row(row: dict[str, Any]) -> Record:
    """The inverse of `asdict`."""
    points = tuple(
        Point(**{**p, "accuracy": Estimate(**p["accuracy"]), "each": tuple(p["each"])}) for p in row["points"]
    )
    spent = {name: Spent(**row[name]) for name in ("training", "reinforcement")}
    return Record(**{**row, **spent, "cell": Cell(**row["cell"]), "points": points, "right": tuple(row["right"])})


def last_tenth(losses: Sequence[float]) -> float:
    """The mean of the last tenth of the steps."""
    return fmean(losses[-max(1, len(losses) // 10) :])
