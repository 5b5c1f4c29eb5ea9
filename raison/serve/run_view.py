"""What the API says of one training run, put together from run.json, recipe.toml and the logs of its stages.

The order of the stages is that of the prediction, which a run writes before it starts; until then that of the recipe.
Not covered: reading growing files (run_files.py), routes (runs.py).
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from tokenizers import Tokenizer as Backend

from raison.config import CONTROL
from raison.files import is_held
from raison.serve.run_files import Row, Tail, read_object, spoken

Figures = dict[str, float | int | str | None]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class StageView(Record):
    """How far one stage is. `accuracy` is pass@1 after it, with its interval; `seconds` is what it has taken."""

    name: str
    kind: str
    control: bool
    state: Literal["waiting", "active", "done"]
    step: int
    total: int
    tokens: int
    seconds: float
    predicted_seconds: float | None
    accuracy: dict[str, float] | None


class RunSummary(Record):
    """A run in a list. `updated` is when it last wrote, in seconds since 1970; `stage` is where it is."""

    name: str
    recipe: str
    task: str
    state: Literal["running", "stopped", "finished"]
    started: str
    updated: float
    stage: str
    step: int
    total: int


class Sample(Record):
    """One rollout of training in words; the texts are empty where the run has no tokenizer to decode them with."""

    step: int
    prompt: str
    thinking: str
    answer: str
    correct: bool
    reason: str
    reward: float
    tokens: int
    thinking_tokens: int
    truncated: bool


class RunView(RunSummary):
    """One run. `metrics` are steps of the stage `shown` with their figures, `samples` some of its latest rollouts."""

    shown: str
    stages: list[StageView]
    metrics: list[Figures]
    samples: list[Sample]
    machine: dict[str, Any]


class RunOnDisk:
    """One run's folder, read at one moment. `steps_of` gives the rows of a log, however they are come by."""

    def __init__(self, folder: Path, steps_of: Callable[[Path], Tail]) -> None:
        self.folder, self._steps_of = folder, steps_of

    @cached_property
    def _state(self) -> Row:
        return read_object(self.folder / "run.json")

    @cached_property
    def _recipe(self) -> Row:
        """The recipe as it was written down; a viewer does not judge it."""
        try:
            return tomllib.loads((self.folder / "recipe.toml").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    @cached_property
    def _planned(self) -> dict[str, Row]:
        """Stages by name in the order of the recipe, each grpo stage that asks for a control followed by it."""
        plan: dict[str, Row] = {}
        for stage in self._recipe.get("stage", []):
            plan[stage["name"]] = stage
            if stage.get("control"):
                plan[stage["name"] + CONTROL] = stage
        return plan

    @cached_property
    def _predicted(self) -> dict[str, float | None]:
        """All stages in their order with the seconds that were predicted."""
        lines = {line["stage"]: line["seconds"] for line in self._state.get("predicted", [])}
        return lines or dict.fromkeys(self._planned)

    @property
    def machine(self) -> dict[str, Any]:
        found: dict[str, Any] = self._state.get("machine", {})
        return found

    def steps(self, stage: str) -> list[Row]:
        """The steps of a stage in order; none before its first."""
        rows = self._steps_of(self.folder / "stages" / stage / "metrics.jsonl").rows()
        return [row for row in rows if type(row.get("step")) is int]

    def rollouts(self, stage: str) -> Path:
        return self.folder / "stages" / stage / "rollouts.jsonl"

    def stages(self) -> list[StageView]:
        return [self._stage(name) for name in self._predicted]

    def summary(self) -> RunSummary:
        """Where the run is: at its newest stage that has begun."""
        names = list(self._predicted)
        begun = [n for n in names if n in self._outcomes or (self.folder / "stages" / n).is_dir()]
        name = (begun[-1:] or names[:1] or [""])[0]
        now = self._stage(name) if name else None
        return RunSummary(
            name=self.folder.name, recipe=self._recipe.get("name", ""), task=self._state.get("task", ""),
            state="finished" if "evaluation" in self._state else "running" if is_held(self.folder) else "stopped",
            started=self._state.get("started", ""), updated=self._updated(name), stage=name,
            step=now.step if now else 0, total=now.total if now else 0,
        )  # fmt: skip

    @property
    def _outcomes(self) -> dict[str, Row]:
        found: dict[str, Row] = self._state.get("outcomes", {})
        return found

    def _stage(self, name: str) -> StageView:
        plan = self._planned.get(name, {})
        done = self._outcomes.get(name)
        rows = [] if done else self.steps(name)
        used: Row = done or {
            "steps": rows[-1]["step"] if rows else 0,
            "tokens": sum(row.get("tokens", 0) for row in rows),
            "seconds": sum(row.get("seconds") or 0.0 for row in rows),
        }
        return StageView(
            name=name, kind=plan.get("kind", name), control=name.endswith(CONTROL), step=used["steps"],
            state="done" if done else "active" if (self.folder / "stages" / name).is_dir() else "waiting",
            total=plan["steps"] if "steps" in plan else used["steps"], tokens=used["tokens"], seconds=used["seconds"],
            predicted_seconds=self._predicted[name], accuracy=used.get("accuracy"),
        )  # fmt: skip

    def _updated(self, stage: str) -> float:
        place = self.folder / "stages" / stage
        files = (self.folder / "run.json", place / "metrics.jsonl", place / "rollouts.jsonl", place / "checkpoints")
        return max((file.stat().st_mtime for file in (self.folder, *files) if file.exists()), default=0.0)


def figures(row: Row) -> Figures:
    """A step's figures as JSON can say them: NaN and infinity become null, nested values are left out."""
    plain = {name: value for name, value in row.items() if value is None or isinstance(value, float | int | str)}
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in plain.items()}


def samples(rows: list[Row], backend: Backend | None) -> Iterator[Sample]:
    """Rollouts in words; rows that are none are passed over."""
    for row in rows:
        thinking, answer = spoken(row, backend)
        said = {
            "prompt": row["problem"].get("prompt", ""), "thinking": thinking, "answer": answer,
            "correct": row["verdict"].get("correct"), "reason": row["verdict"].get("reason", ""),
            "tokens": len(row.get("completion_ids", ())),
        }  # fmt: skip
        try:
            yield Sample.model_validate({**row, **said})
        except ValidationError:
            continue
