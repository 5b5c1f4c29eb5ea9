"""What a stage reached and what it used: every stage is judged on the same fresh problems.

A model that exists is judged before anything trains it, so that a gain has a start to be counted from. Not covered:
the bill (bill.py), the picture of it (bench/report.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from raison.config import BASE, GrpoStage, PretrainStage, Stage
from raison.model import cost
from raison.model.spec import ModelSpec
from raison.model.transformer import Transformer
from raison.tasks.task import Task
from raison.text import chat
from raison.think.measure import Attempt, Measurement, held_out_problems, measure, over_budgets, over_votes
from raison.train.loop import Totals
from raison.train.stages import Bench

TYPICAL_CONTEXT = 128


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What one stage used and what it reached. `accuracy` is pass@1 with its interval; None where it is not judged."""

    stage: str
    kind: str
    control: bool
    steps: int
    tokens: int
    flops: float
    seconds: float
    accuracy: dict[str, float] | None
    thinking_tokens: float | None
    lenient: dict[str, float] | None = None
    """pass@1 by the checker's forgiving reading, where it has one."""


class Judge:
    """Measures models on fresh problems of a recipe's task."""

    def __init__(self, bench: Bench, held_out: Task) -> None:
        e = bench.recipe.evaluation
        self._bench, self._task, self._settings = bench, held_out, e
        self._problems = held_out_problems(held_out, e.level, e.problems, e.seed)
        self._thinks = chat.thinks(bench.tokenizer)

    def base(self, model: Transformer) -> StageOutcome:
        """What a model that exists can do as it is."""
        start = time.perf_counter()
        found = self._measure(model)[0]
        tokens = round(found.tokens_per_problem * len(self._problems))
        flops = tokens * cost.decode_flops(model.spec, TYPICAL_CONTEXT)
        return self._outcome(found, BASE, BASE, False, 0, tokens, flops, time.perf_counter() - start)

    def stage(self, stage: Stage, model: Transformer, totals: Totals) -> StageOutcome:
        """What `stage` made of the model; pre-training alone is not judged."""
        start = time.perf_counter()
        found = None if isinstance(stage, PretrainStage) else self._measure(model)[0]
        seconds = totals.seconds + time.perf_counter() - start
        control = isinstance(stage, GrpoStage) and stage.reward == "random"
        flops = stage_flops(stage, totals, model.spec, self._bench.recipe.lora is not None)
        return self._outcome(found, stage.name, stage.kind, control, stage.steps, totals.tokens, flops, seconds)

    def _outcome(
        self, found: Measurement | None, name: str, kind: str, control: bool, steps: int, tokens: int, flops: float,
        seconds: float,
    ) -> StageOutcome:  # fmt: skip
        if found is None:
            return StageOutcome(name, kind, control, steps, tokens, flops, seconds, None, None)
        thinking = found.thinking_tokens if self._thinks else None
        lenient = None if found.lenient is None else asdict(found.lenient)
        accuracy = asdict(found.pass_at_1)
        return StageOutcome(name, kind, control, steps, tokens, flops, seconds, accuracy, thinking, lenient)

    def _measure(self, model: Transformer, samples: int = 1) -> tuple[Measurement, list[Attempt]]:
        e = self._settings
        engine = self._bench.engine(model)
        return measure(engine, self._task, self._problems, e.budgets[-1], samples, e.temperature, e.seed)

    def evaluation(self, model: Transformer) -> dict[str, Any]:
        """Accuracy over budgets and votes, and two traces: what evaluation.json holds."""
        e = self._settings
        at = (0, *e.budgets) if self._thinks else e.budgets
        budgets = over_budgets(self._bench.engine(model), self._task, self._problems, at, e.temperature, e.seed)
        best, attempts = self._measure(model, samples=max(e.votes))
        return {
            "problems": len(self._problems), "level": e.level, "temperature": e.temperature,
            "budgets": [asdict(m) for m in budgets],
            "votes": [{"votes": k, "best_of": asdict(v)} for k, v in over_votes(attempts, e.votes).items()],
            "best_of_seconds": best.seconds,
            "samples": dict(_traces(attempts)),
        }  # fmt: skip


def stage_flops(stage: Stage, totals: Totals, spec: ModelSpec, frozen: bool = False) -> float:
    """Operations of the tokens that were trained and sampled; attention at a typical length, for documents differ."""
    training = cost.training_flops(spec, TYPICAL_CONTEXT, mtp=getattr(stage, "mtp_weight", 0.0) > 0, frozen=frozen)
    return totals.trained * training + totals.sampled * cost.decode_flops(spec, TYPICAL_CONTEXT)


def _traces(attempts: Sequence[Attempt]) -> Iterator[tuple[str, dict[str, str]]]:
    """The first problem that was solved and the first that was not, with what the model wrote."""
    for name, wanted in (("solved", True), ("failed", False)):
        found = next((a for a in attempts if a.verdicts[0].correct == wanted), None)
        if found is not None:
            c = found.completions[0]
            yield name, {"prompt": found.problem.prompt, "thinking": c.thinking, "answer": c.answer}
