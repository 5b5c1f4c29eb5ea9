"""The Recipe: a whole run from random weights, or from a model that exists, to a reasoner; read from TOML and written
back resolved.

Checks what no section can alone: names, which stage starts from which, sources and teachers. Not covered: whether tasks
exist, what a model at a path is, or whether a tokenizer fits (tasks/catalog.py, train/origin.py, train/recipe.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from raison.config.sections import BillSection, EvaluationSection, LoraSection, TaskSection, TrainSection
from raison.config.stages import SCRATCH, DistillStage, GrpoStage, PretrainStage, RejectStage, Stage
from raison.config.table import parse, to_table
from raison.config.toml_file import read_toml
from raison.errors import UserError, nearest
from raison.model.spec import PRESETS, ModelSpec, preset


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One TOML file: the settings at the top, a section for each part, and a `[[stage]]` table for each stage."""

    name: str
    """Names the run's folder."""
    seed: int = 0
    """Everything random follows from it."""
    model: ModelSpec | str = PRESETS["tiny"]
    """From random weights: a preset's name, or a table with `preset = "tiny"` and any field of ModelSpec. A model that
    exists: a folder, a .gguf file, "smollm2" or a name of the hub; its tokenizer and chat template are used.
    """
    lora: LoraSection | None = None
    """Train adapters on the model's frozen weights; without this section all weights are trained."""
    task: TaskSection
    """What is learnt."""
    train: TrainSection = field(default_factory=TrainSection)
    """How this machine trains."""
    stages: tuple[Stage, ...] = field(metadata={"key": "stage"})
    """In the order in which they run."""
    final: str = ""
    """Stage whose weights become the run's model; empty = the last one that is not distillation."""
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)
    """What stages are judged on."""
    bill: BillSection = field(default_factory=BillSection)
    """What the run is charged."""

    def __post_init__(self) -> None:
        if not self.stages:
            raise UserError("there is no stage; add at least one [[stage]] table")
        if not self.name or not all(letter.isalnum() or letter in "-_." for letter in self.name):
            raise UserError(f'name is "{self.name}"; it names a folder: give letters, digits, dots, - and _ alone')
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed is {self.seed}; it must be between 0 and 2^63 - 1")
        for index, stage in enumerate(self.stages):
            self._check(stage, self.stages[:index])
        self.stage(self.final_stage)
        if self.lora is not None:
            self._check_lora()

    @property
    def final_stage(self) -> str:
        """Name of the stage whose weights become the run's model."""
        kept = [stage.name for stage in self.stages if not isinstance(stage, DistillStage)]
        return self.final or (kept or [self.stages[-1].name])[-1]

    def stage(self, name: str) -> Stage:
        """The stage `name`; raises UserError that names the nearest when there is none."""
        found = {stage.name: stage for stage in self.stages}
        if name not in found:
            raise UserError(f'there is no stage "{name}": {nearest(name, found)}')
        return found[name]

    def parent(self, stage: Stage) -> Stage | None:
        """The stage whose final weights `stage` starts from; None = random weights, or those of a model that exists."""
        if stage.start == SCRATCH:
            return None
        if stage.start:
            return self.stage(stage.start)
        index = self.stages.index(stage)
        return self.stages[index - 1] if index else None

    def spec_of(self, stage: Stage) -> ModelSpec | None:
        """The shape of the model that `stage` trains: the student's from a distill stage on, else the recipe's.

        None = that of a model which has to be loaded first.
        """
        if isinstance(stage, DistillStage) and stage.student is not None:
            return stage.student
        above = self.parent(stage)
        if above is not None:
            return self.spec_of(above)
        return self.model if isinstance(self.model, ModelSpec) else None

    def _check(self, stage: Stage, earlier: tuple[Stage, ...]) -> None:
        names = {other.name: other for other in earlier}
        place = f'stage "{stage.name}"'
        if stage.name in names:
            raise UserError(f"{place} is there twice; give one of them another name")
        if stage.start not in ("", SCRATCH, *names):
            hint = nearest(stage.start, {*names, SCRATCH})
            raise UserError(f'{place} starts from "{stage.start}", which is no earlier stage: {hint}')
        if isinstance(stage, DistillStage):
            self._check_distill(stage, names, place)
        if isinstance(stage, RejectStage) and not isinstance(names.get(stage.source), GrpoStage):
            hint = nearest(stage.source, (other.name for other in earlier if isinstance(other, GrpoStage)))
            raise UserError(f'{place} has the source "{stage.source}", which is no earlier grpo stage: {hint}')

    def _check_distill(self, stage: DistillStage, names: Mapping[str, Stage], place: str) -> None:
        above = self.parent(stage)
        if above is not None and stage.student is not None and self.spec_of(above) != stage.student:
            raise UserError(f'{place} starts from "{above.name}", whose model has another shape than the student')
        if not isinstance(stage.teacher, str):
            return
        if stage.teacher not in names:
            hint = nearest(stage.teacher, names)
            raise UserError(
                f'{place} has the teacher "{stage.teacher}", which is no earlier stage: {hint} '
                f'For a model elsewhere write {{ model = "{stage.teacher}" }}'
            )
        taught_by = self.spec_of(names[stage.teacher])
        if taught_by is not None and stage.student is not None and stage.student.vocab_size != taught_by.vocab_size:
            raise UserError(f"{place}: student and teacher must have the same vocab_size, as they share a tokenizer")

    def _check_lora(self) -> None:
        if isinstance(self.model, ModelSpec):
            raise UserError(
                'lora trains adapters on a model that exists; name one, as in model = "path", or leave it out'
            )
        for stage in self.stages:
            if isinstance(stage, PretrainStage) or getattr(stage, "student", None) is not None:
                raise UserError(
                    f'stage "{stage.name}" cannot train adapters; lora goes with sft, grpo and reject stages, and with '
                    "distill where the student is left out"
                )


def parse_recipe(table: Mapping[str, Any]) -> Recipe:
    """A recipe from nested mappings. Raises UserError that names the key path."""
    if isinstance(table, Mapping) and isinstance(table.get("model"), str) and table["model"] in PRESETS:
        table = {**table, "model": preset(table["model"]).to_dict()}
    return parse(Recipe, table, shorthands={ModelSpec: _expand_model})


def load_recipe(path: Path) -> Recipe:
    """A recipe from a TOML file. Raises UserError that names the file and the key path."""
    table = read_toml(path)
    try:
        return parse_recipe(table)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def dump(recipe: Recipe) -> str:
    """The resolved recipe as TOML, with every default in place; `load_recipe` reads it back to an equal Recipe."""
    return tomli_w.dumps(to_table(recipe))


def _expand_model(value: Any) -> Any:
    """`"tiny"` and `{preset = "tiny", ...}` as a table of every field."""
    return preset(value).to_dict() if isinstance(value, str) else with_preset(value)


def with_preset(value: Any) -> Any:
    """`{preset = "tiny", hidden_size = 64}` as a table of every field; anything else as it is."""
    if not isinstance(value, Mapping) or "preset" not in value:
        return value
    rest = {key: item for key, item in value.items() if key != "preset"}
    return {**preset(str(value["preset"])).to_dict(), **rest}
