"""A training run's folder, written piece by piece as the trainer would write it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raison.metrics import StepMetrics
from raison.text.tokenizer import Tokenizer

RECIPE = """
name = "countdown"
[[stage]]
kind = "sft"
name = "cold-start"
steps = 2
[[stage]]
kind = "grpo"
name = "grpo"
steps = 40
control = true
"""
TOKENIZER = Tokenizer.build()
ACCURACY = {"value": 0.725, "low": 0.697, "high": 0.752, "count": 1000}
OUTCOME = {"stage": "cold-start", "kind": "sft", "control": False, "steps": 2, "tokens": 200, "seconds": 1.0}


class WrittenRun:
    """A run under `root` that has made its first stage and stands before the first step of the second."""

    def __init__(self, root: Path, name: str = "countdown-20261122-052758") -> None:
        self.folder = root / name
        self.folder.mkdir(parents=True)
        (self.folder / "recipe.toml").write_text(RECIPE)
        (self.folder / "tokenizer.json").write_text(TOKENIZER.to_json())
        stages = ("cold-start", "grpo", "grpo-control")
        self.state: dict[str, Any] = {
            "task": "countdown",
            "started": "2026-11-22T05:27:58+0000",
            "machine": {"cpu": "a processor", "threads": 2},
            "predicted": [{"stage": stage, "seconds": 60.0} for stage in stages],
            "outcomes": {"cold-start": {**OUTCOME, "accuracy": ACCURACY}},
        }
        self.save()
        for step in (1, 2):
            self.step(step, "cold-start", total=2, loss=1.0 / step)
        self.stage("grpo")

    def save(self, **more: Any) -> None:
        self.state |= more
        (self.folder / "run.json").write_text(json.dumps(self.state))

    def stage(self, name: str) -> Path:
        path = self.folder / "stages" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def step(self, number: int, stage: str = "grpo", total: int = 40, **figures: float) -> None:
        line = StepMetrics(stage, number, total, 100, 0.5, figures).to_line()
        self.append(stage, "metrics.jsonl", line)

    def grpo_step(self, number: int) -> None:
        share = number / 40
        self.step(number, reward=share, solved=share, length=60.0 + number, entropy=0.4 - share / 4, dead=0.1)

    def rollout(self, step: int, prompt: str, thinking: str, answer: str, correct: bool) -> None:
        ids = [*TOKENIZER.encode(thinking), TOKENIZER.think_close, *TOKENIZER.encode(answer), TOKENIZER.eos]
        row: Mapping[str, Any] = {
            "problem": {"task": "countdown", "prompt": prompt}, "problem_id": prompt, "step": step, "group": 0,
            "completion_ids": ids, "logprobs": [0.0] * len(ids), "reward": float(correct), "truncated": False,
            "verdict": {"correct": correct, "reason": "makes 46" if correct else "makes 35"},
            "thinking_tokens": len(ids) - 3,
        }  # fmt: skip
        self.append("grpo", "rollouts.jsonl", json.dumps(row) + "\n")

    def append(self, stage: str, file: str, text: str) -> None:
        with (self.stage(stage) / file).open("a") as log:
            log.write(text)
