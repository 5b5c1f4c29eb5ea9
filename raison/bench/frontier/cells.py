"""A cell of the grid: one trained model, as a recipe, with the cell that it goes on from.

Without reinforcement a cell trains from random weights, so that its learning rate falls at its own end. A reinforced
one goes on from the cell with fewer steps, whose optimizer is not handed on. Not covered: running recipes (run.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from raison.bench.frontier.grid import Grid
from raison.config import EvaluationSection, GrpoStage, OptimizerSection, PretrainStage, Recipe, SftStage

AnyStage = TypeVar("AnyStage", PretrainStage, SftStage, GrpoStage)
SMALL_EVALUATION = 32
"""Problems that a recipe judges its own stages on; cells are measured apart, on all of the grid's."""


@dataclass(frozen=True, slots=True)
class Cell:
    size: str
    tokens: int
    steps: int = 0
    """Of GRPO in all."""
    before: int = 0
    """Steps of the cell that it goes on from."""
    seed: int = 0
    """Added to the grid's, for one more run of the same training."""

    @property
    def id(self) -> str:
        reinforced, again = (f"-{letter}{n}" if n else "" for letter, n in (("g", self.steps), ("s", self.seed)))
        return f"{self.size}-t{self.tokens}{reinforced}{again}"

    @property
    def parent(self) -> Cell | None:
        """The cell whose model it starts from, as `chain` lists it; None = random weights."""
        return replace(self, steps=self.before, before=0) if self.steps else None


def all_cells(grid: Grid) -> list[Cell]:
    """Every chain of the grid, small ones first, each in the order in which it must run."""
    return [
        cell for size in grid.sizes for tokens in grid.tokens for cell in chain(size.name, tokens, *grid.rl_steps)
    ]  # fmt: skip


def chain(size: str, tokens: int, *steps: int, seed: int = 0) -> list[Cell]:
    """A trained model and what reinforcement makes of it; `steps` rise."""
    pairs = zip((0, *steps), steps, strict=False)
    return [Cell(size, tokens, seed=seed), *(Cell(size, tokens, n, before, seed) for before, n in pairs)]


def recipe_of(grid: Grid, cell: Cell, start: Path | None) -> Recipe:
    """The recipe of a cell; `start` is the model folder of its parent, None where it has none."""
    stages: tuple[PretrainStage | SftStage | GrpoStage, ...]
    if start is None:
        stages = _training(grid, cell.tokens)
        final = stages[-1].name
    else:
        stages = (_fitted(replace(grid.grpo, control=False), cell.steps - cell.before),)
        final = grid.grpo.name
    return Recipe(
        name=cell.id, seed=grid.seed + cell.seed, model=grid.size(cell.size).model if start is None else str(start),
        task=grid.task, train=grid.train, stages=stages, final=final, bill=grid.bill,
        evaluation=EvaluationSection(
            problems=SMALL_EVALUATION, level=grid.level, budgets=grid.budgets[-1:], votes=(1,),
            temperature=grid.temperature,
        ),
    )  # fmt: skip


def _training(grid: Grid, tokens: int) -> tuple[PretrainStage, SftStage]:
    """Both stages, their tokens in the proportion of the grid's."""
    first, second = grid.pretrain, grid.sft
    whole = first.steps * first.batch_tokens + second.steps * second.batch_tokens
    steps = [max(1, round(tokens * stage.steps / whole)) for stage in (first, second)]
    return _fitted(first, steps[0]), _fitted(second, steps[1])


def _fitted(stage: AnyStage, steps: int) -> AnyStage:
    """The stage with that many steps, and a warm-up that a short one can have."""
    optimizer: OptimizerSection = replace(stage.optimizer, warmup=min(stage.optimizer.warmup, steps // 5))
    return replace(stage, steps=steps, optimizer=optimizer)
