"""A recipe from its first stage to its bill: stages in order, each resumable, each judged on the same fresh problems.

    runs/<run>/recipe.toml            the recipe with every default in place
               tokenizer.json         the vocabulary of all its ids, for whoever reads rollouts while it runs
               run.json               what is done so far: outcomes, bill, machine, versions
               stages/<stage>/        checkpoints, metrics.jsonl, rollouts.jsonl (where it samples), model/ or adapter/
               evaluation.json        accuracy over budgets and votes of the final model, two traces
               model/                 the final model folder; with a `lora` section adapter/ beside it (origin.py)

run.json is rewritten whole after each stage, so a kill between stages loses nothing. Not covered: the report
(bench/report.py), choosing the run's folder (cli).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from raison import hardware
from raison.config import BASE, CONTROL, DistillStage, GrpoStage, Recipe, Stage, dump
from raison.errors import UserError
from raison.files import holding, write_atomic
from raison.hardware import release_memory
from raison.metrics import Sink
from raison.model.spec import ModelSpec
from raison.model.transformer import Transformer
from raison.provenance import commit, now, versions
from raison.tasks.catalog import load_task
from raison.tasks.task import checker_id
from raison.think import effort
from raison.train import bill
from raison.train.bill import Bill, StageBill
from raison.train.loop import Loop, LoopSettings, StopRequest
from raison.train.origin import Origin
from raison.train.outcome import Judge, StageOutcome
from raison.train.predict import Rates, predict
from raison.train.stages import Bench, new_learner, prepare
from raison.weights import folder as model_folder
from raison.weights.vocabulary_files import VOCABULARY


@dataclass(frozen=True, slots=True)
class Planned:
    """A stage with the one that it starts from, if any, and the shape it trains; None = that of a loaded model."""

    stage: Stage
    parent: Stage | None
    spec: ModelSpec | None


@dataclass(frozen=True, slots=True)
class RunResult:
    folder: Path
    model: Path
    outcomes: tuple[StageOutcome, ...]
    bill: Bill
    evaluation: dict[str, Any] = field(default_factory=dict)


class Watch(Protocol):
    """Whoever looks on. Every method may do nothing."""

    def predicted(self, bill: Bill) -> None: ...
    def stage_started(self, stage: str, steps: int) -> None: ...
    def sink(self, stage: str) -> Sink: ...
    def stage_done(self, outcome: StageOutcome) -> None: ...
    def note(self, text: str) -> None: ...


def run_recipe(
    recipe: Recipe, folder: Path, *, watch: Watch, resume: bool = False, rates: Mapping[ModelSpec, Rates] | None = None
) -> RunResult:
    """Run what is left of the recipe in `folder`, which is held until it ends.

    `rates` of shapes that were timed already are not timed again for the prediction.

    Raises UserError, also when another process is at work there, and Stopped when the user asked to stop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with holding(folder):
        return Run(recipe, folder, watch, resume, rates or {}).go()


def expand(recipe: Recipe) -> list[Planned]:
    """Stages in the order in which they run; a grpo stage is followed by its random-reward control."""
    plan: list[Planned] = []
    for stage in recipe.stages:
        planned = Planned(stage, recipe.parent(stage), recipe.spec_of(stage))
        plan.append(planned)
        if isinstance(stage, GrpoStage) and stage.control:
            control = replace(stage, name=stage.name + CONTROL, reward="random", control=False)
            plan.append(replace(planned, stage=control))
    return plan


class Run:
    """One run under way: its state is what run.json holds."""

    def __init__(
        self, recipe: Recipe, folder: Path, watch: Watch, resume: bool, rates: Mapping[ModelSpec, Rates]
    ) -> None:
        self.recipe, self.folder, self.watch, self.rates = recipe, folder, watch, rates
        self.plan = expand(recipe)
        self.state: dict[str, Any] = _read_state(folder) if resume else {}
        self.origin = Origin(recipe, folder)
        for note in self.origin.notes:
            watch.note(note)
        task, held_out = (load_task(recipe.task.name, side, recipe.task.checker) for side in (False, True))
        self.bench = Bench(recipe, folder, self.origin, task)
        self.judge = Judge(self.bench, held_out)

    def go(self) -> RunResult:
        self._begin()
        with StopRequest() as stop:
            if self.origin.base and BASE not in self._outcomes():
                self.watch.note(f"measuring {self.recipe.model} before it is trained")
                self._record(self.judge.base(self.origin.fresh(self.origin.spec)))
            for planned in self.plan:
                if planned.stage.name not in self._outcomes():
                    self._one(planned, stop)
        if "evaluation" not in self.state:
            self._finish()
        return self.result()

    def result(self) -> RunResult:
        outcomes = tuple(StageOutcome(**row) for row in self._outcomes().values())
        return RunResult(self.folder, self.folder / "model", outcomes, self.bill(), self.state.get("evaluation", {}))

    def bill(self) -> Bill:
        actual = [_bill_line(StageOutcome(**row), self.recipe) for row in self._outcomes().values()]
        predicted = [StageBill(**row) for row in self.state.get("predicted", [])]
        base = BASE if self.origin.base else None
        return Bill(tuple(predicted), bill.with_points(actual, start_of(self.plan, base)))

    def _begin(self) -> None:
        if not self.state:
            write_atomic(self.folder / "recipe.toml", dump(self.recipe).encode())
            write_atomic(self.folder / VOCABULARY, self.bench.tokenizer.to_json().encode())
            lines = [(planned.stage, planned.spec or self.origin.spec) for planned in self.plan]
            base = self.origin.spec if self.origin.base else None
            predicted = predict(self.bench, lines, self.origin.fresh, base, self.rates)
            self.state = {
                "recipe": self.recipe.name, "seed": self.recipe.seed, "task": self.recipe.task.name,
                "checker": checker_id(self.bench.task), "started": now(), "versions": versions(),
                "commit": commit(), "machine": hardware.probe().to_dict(), "outcomes": {},
                "predicted": [asdict(line) for line in predicted],
            }  # fmt: skip
            self._save()
        self.watch.predicted(self.bill())

    def _one(self, planned: Planned, stop: StopRequest) -> None:
        stage = planned.stage
        place = self.bench.stage_folder(stage.name)
        loop = Loop(
            new_learner(self.bench, stage, self._weights(planned)),
            LoopSettings(stage.name, stage.steps, stage.checkpoint_seconds, place),
            note=self.watch.note,
        )
        self.watch.stage_started(stage.name, stage.steps)
        step = prepare(self.bench, stage, loop)
        totals = loop.run(step, [self.watch.sink(stage.name)], stop)
        outcome = self.judge.stage(stage, loop.learner.model, totals)
        self.origin.keep(stage, loop.learner.model, self._provenance(outcome))
        self._record(outcome)
        shutil.rmtree(place / "checkpoints", ignore_errors=True)  # what was kept has taken their place
        del loop, step
        release_memory()

    def _record(self, outcome: StageOutcome) -> None:
        self.state["outcomes"][outcome.stage] = asdict(outcome)
        self._save()
        self.watch.stage_done(outcome)

    def _weights(self, planned: Planned) -> Transformer:
        if planned.parent is None:
            return self.origin.fresh(planned.spec or self.origin.spec, planned.stage)
        return self.origin.of_stage(planned.parent)

    def _finish(self) -> None:
        model = self.origin.final(self.recipe.stage(self.recipe.final_stage))
        self.watch.note("measuring the final model over budgets and votes")
        evaluation = self.judge.evaluation(model)
        write_atomic(self.folder / "evaluation.json", json.dumps(evaluation, indent=1).encode())
        self.state |= {"evaluation": evaluation, "ended": now()}
        final = StageOutcome(**self._outcomes()[self.recipe.final_stage])
        provenance = self._provenance(final) | effort.provenance_of(_curve(evaluation))
        model_folder.save(self.folder / "model", model, self.bench.tokenizer, provenance)
        self._save()

    def _provenance(self, outcome: StageOutcome) -> dict[str, Any]:
        keys = ("recipe", "seed", "task", "checker", "commit", "versions")
        base = {"base": self.origin.base} if self.origin.base else {}
        return {key: self.state[key] for key in keys} | base | {"outcome": asdict(outcome)}

    def _outcomes(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.state["outcomes"]
        return found

    def _save(self) -> None:
        self.state["bill"] = self.bill().to_json()
        write_atomic(self.folder / "run.json", json.dumps(self.state, indent=1).encode())


def _curve(evaluation: dict[str, Any]) -> list[tuple[int, float]]:
    """Accuracy over budgets, as an evaluation holds it."""
    return [(m["budget"], m["pass_at_1"]["value"]) for m in evaluation["budgets"]]


def start_of(plan: Sequence[Planned], base: str | None = None) -> dict[str, str]:
    """Stage -> the stage whose weights it goes on from, or `base` where it follows none; a student begins with none."""
    parents = {p.stage.name: p.parent.name if p.parent else base for p in plan if not isinstance(p.stage, DistillStage)}
    return {name: parent for name, parent in parents.items() if parent is not None}


def _bill_line(outcome: StageOutcome, recipe: Recipe) -> StageBill:
    accuracy = None if outcome.accuracy is None else outcome.accuracy["value"]
    return bill.stage_bill(outcome.stage, outcome.tokens, outcome.flops, outcome.seconds, recipe.bill, accuracy)


def _read_state(folder: Path) -> dict[str, Any]:
    """What an earlier process recorded; empty when it was killed before its first record."""
    path = folder / "run.json"
    if not path.exists():
        return {}
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{path} is damaged; start the run anew without --resume") from None
    return state
