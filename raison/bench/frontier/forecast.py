"""How long a grid will take: predicted before it starts from timed rates, corrected as cells end.

Rests on train/predict.py and shares its assumptions. Measuring a cell is counted as its samples at the timed rate, with
REDRAWN of them once more for each smaller budget, and OVERHEAD_SECONDS for loading and saving. Not covered: other
programs on the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from raison.bench.frontier.cells import SMALL_EVALUATION, Cell, recipe_of
from raison.bench.frontier.grid import Grid
from raison.model.spec import ModelSpec
from raison.tasks.catalog import load_task
from raison.train.origin import Origin
from raison.train.predict import Rates, measure_rates, stage_line
from raison.train.stages import Bench

REDRAWN = 0.4
OVERHEAD_SECONDS = 2.0


def rates_of(grid: Grid, folder: Path) -> dict[ModelSpec, Rates]:
    """Each size timed for a few seconds."""
    found = {}
    for size in grid.sizes:
        recipe = recipe_of(grid, Cell(size.name, grid.tokens[0]), None)
        origin = Origin(recipe, folder)
        bench = Bench(recipe, folder, origin, load_task(grid.task.name, False, grid.task.checker))
        found[size.model] = measure_rates(bench, origin.fresh(size.model))
    return found


def seconds_of(grid: Grid, cell: Cell, rates: Mapping[ModelSpec, Rates]) -> float:
    """Of making and measuring one cell."""
    spec = grid.size(cell.size).model
    rate = rates[spec]
    recipe = recipe_of(grid, cell, Path("parent") if cell.steps else None)
    training = sum(stage_line(recipe, stage, spec, rate).seconds for stage in recipe.stages)
    drawn = 1 + REDRAWN * (len(grid.budgets) - 1)
    samples = drawn * grid.problems * grid.votes[-1] + 3 * SMALL_EVALUATION
    return training + samples * rate.completion / rate.sampling + OVERHEAD_SECONDS


class Clock:
    """What is left of a list of cells: their predictions, times how far off those were so far."""

    def __init__(self, predicted: Mapping[Cell, float]) -> None:
        self._predicted = dict(predicted)
        self._expected = self._taken = 0.0

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(self._predicted)

    @property
    def total(self) -> float:
        return sum(self._predicted.values())

    def ended(self, cell: Cell, seconds: float) -> None:
        self._expected += self._predicted[cell]
        self._taken += seconds

    def left(self, cells: Sequence[Cell]) -> float:
        """Seconds of cells that are still to come."""
        pace = self._taken / self._expected if self._expected else 1.0
        return pace * sum(self._predicted[cell] for cell in cells)
