"""A cell made and measured: its recipe runs, its model answers, its record is written. Each is done once.

    <folder>/<cell>/run/            the recipe's run, which goes on where it was killed (train/recipe.py)
             <cell>/measured.json   what was measured; a cell that has it is done

Not covered: which cells there are (cells.py) and in which order (run.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from raison import provenance
from raison.bench.answerers import Manner
from raison.bench.frontier import record as records
from raison.bench.frontier.cells import Cell, recipe_of
from raison.bench.frontier.grid import Grid
from raison.bench.frontier.record import NOTHING, Record, Spent, last_tenth, points_of
from raison.bench.frontier.sharing import over_budgets
from raison.bench.problem_set import ProblemSet
from raison.config import GrpoStage, Recipe
from raison.engine.engine import Engine
from raison.engine.settings import EngineSettings
from raison.metrics import read_metrics
from raison.model import cost
from raison.model.spec import ModelSpec
from raison.reasoner import fitted
from raison.train.predict import Rates
from raison.train.recipe import RunResult, Watch, run_recipe
from raison.train.stages import CACHE_TOKENS, MAX_BATCH
from raison.weights import folder as model_folder
from raison.weights.fingerprint import fingerprint

RUN, MODEL = "run", "model"


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where cells of one grid are made, and the problems they are measured on."""

    grid: Grid
    folder: Path
    problems: ProblemSet
    rates: Mapping[ModelSpec, Rates]

    def model_of(self, cell: Cell) -> Path:
        return self.folder / cell.id / RUN / MODEL

    def done(self, cell: Cell) -> Record | None:
        """Its record, if it was measured on these very problems."""
        found = records.read(self.folder / cell.id)
        return found if found is not None and found.problems_sha256 == self.problems.sha256 else None

    def make(self, cell: Cell, parent: Record | None, watch: Watch) -> Record:
        """Train the cell, or go on with it, and measure it; `parent` is the record of its `cell.parent`.

        Raises UserError as a recipe does, and Stopped when the user asked to stop.
        """
        start = time.perf_counter()
        before = None if cell.parent is None else self.model_of(cell.parent)
        recipe = recipe_of(self.grid, cell, before)
        run = self.folder / cell.id / RUN
        result = run_recipe(recipe, run, watch=watch, resume=True, rates=self.rates)
        for log in run.glob("stages/*/rollouts.jsonl"):  # large, and nothing reads it here
            log.unlink()
        watch.note(f"{cell.id}: measuring {len(self.problems.problems)} problems x {self.grid.votes[-1]} samples")
        found = self._measured(cell, recipe, result, parent, start)
        records.write(self.folder / cell.id, found)
        return found

    def _measured(self, cell: Cell, recipe: Recipe, result: RunResult, parent: Record | None, start: float) -> Record:
        grid = self.grid
        loaded = model_folder.load(result.model, packed=False)
        spec = loaded.model.spec
        settings = fitted(EngineSettings(cache_tokens=CACHE_TOKENS, max_batch=MAX_BATCH), loaded.model)
        engine = Engine(loaded.model, loaded.tokenizer, settings)
        manner = Manner(grid.votes[-1], grid.budgets[-1], temperature=grid.temperature, seed=grid.seed + cell.seed)
        shared = over_budgets(engine, self.problems, manner, grid.budgets)
        spent = _spent(recipe, result)
        right = tuple(sum(sample.correct for sample in row) for row in shared.sheets[grid.budgets[-1]])
        return Record(
            cell=cell,
            parameters=cost.activated(spec).without_embedding,
            loss=_loss(recipe, result) if parent is None else parent.loss,
            training=spent if parent is None else parent.training,
            reinforcement=NOTHING if parent is None else parent.reinforcement.plus(spent),
            points=points_of(grid, spec, shared),
            right=right,
            samples=grid.votes[-1],
            model_sha256=fingerprint(result.model),
            problems_sha256=self.problems.sha256,
            date=provenance.now(),
            seconds=time.perf_counter() - start,
        )


def _spent(recipe: Recipe, result: RunResult) -> Spent:
    """Of all stages: units, FLOPs as the bill counts them, and the seconds of steps alone, without any judging."""
    names = {stage.name for stage in recipe.stages}
    stages = [outcome for outcome in result.outcomes if outcome.stage in names]
    seconds = sum(row["seconds"] for name in names for row in _steps(result.folder, name))
    first = recipe.stages[0]
    units = first.steps * first.problems * first.group_size if isinstance(first, GrpoStage) else 0
    return Spent(units or sum(outcome.tokens for outcome in stages), sum(o.flops for o in stages), seconds)


def _loss(recipe: Recipe, result: RunResult) -> float:
    return last_tenth([row["loss"] for row in _steps(result.folder, recipe.final_stage)])


def _steps(folder: Path, stage: str) -> list[dict[str, float]]:
    return read_metrics(folder / "stages" / stage / "metrics.jsonl")
