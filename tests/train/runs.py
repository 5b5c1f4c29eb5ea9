"""A whole recipe small enough for a test, and someone to watch it."""

from __future__ import annotations

from typing import Any

from raison.config import Recipe, parse_recipe
from raison.metrics import StepMetrics
from raison.train.bill import Bill
from raison.train.outcome import StageOutcome

MODEL = {
    "preset": "tiny", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "q_lora_rank": 16, "kv_lora_rank": 16, "moe_intermediate_size": 32, "n_routed_experts": 4,
}  # fmt: skip
ADAMW = {"kind": "adamw", "lr": 1e-3, "schedule": "constant", "warmup": 0}


def table(**changes: Any) -> dict[str, Any]:
    """A recipe as TOML would give it. The control makes sure that some stage has live groups."""
    stages = [
        {"kind": "pretrain", "steps": 3, "documents": [{"task": "countdown"}]},
        {"kind": "sft", "steps": 4},
        {"kind": "grpo", "steps": 3, "problems": 4, "group_size": 4, "budget": 12, "optimizer": ADAMW},
    ]
    for stage in stages:
        stage |= {"batch_tokens": 256, "checkpoint_seconds": 0.0}
    return {
        "name": "small", "model": MODEL, "task": {"name": "countdown", "levels": [2]},
        "train": {"precision": "fp32", "threads": 1}, "stage": stages,
        "evaluation": {"problems": 8, "level": 2, "budgets": [4, 8], "votes": [1, 2]},
    } | changes  # fmt: skip


def small(**changes: Any) -> Recipe:
    return parse_recipe(table(**changes))


class Watcher:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.steps: list[StepMetrics] = []
        self.outcomes: list[StageOutcome] = []
        self.notes: list[str] = []
        self.bills: list[Bill] = []

    def predicted(self, bill: Bill) -> None:
        self.bills.append(bill)

    def stage_started(self, stage: str, steps: int) -> None:
        pass

    def sink(self, stage: str) -> Watcher:
        return self

    def write(self, metrics: StepMetrics) -> None:
        self.steps.append(metrics)

    def close(self) -> None:
        pass

    def stage_done(self, outcome: StageOutcome) -> None:
        self.outcomes.append(outcome)

    def note(self, text: str) -> None:
        self.notes.append(text)
