"""A run's folder as train/recipe.py leaves it, with invented figures."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from raison.config import BillSection, dump, load_recipe
from raison.metrics import MetricsWriter, StepMetrics
from raison.train.bill import Bill, stage_bill, with_points

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "quick.toml"
HOSTILE = "<script>alert(1)</script> & more"
STAGES = (
    ("pretrain", "pretrain", False, None),
    ("sft", "sft", False, 0.62),
    ("grpo", "grpo", False, 0.93),
    ("grpo-control", "grpo", True, 0.61),
    ("distill", "distill", False, 0.71),
)
MACHINE = {
    "cpu": "a processor", "cores": 2, "instruction_sets": ["avx2"], "memory_gb": 25.3, "threads": 2, "torch": "2.13.0",
    "fp32_gflops": 181.0, "bf16_gflops": 700.0, "read_gb_per_second": 17.0,
}  # fmt: skip


def estimate(value: float, count: int = 1000) -> dict[str, float]:
    return {"value": value, "low": max(0.0, value - 0.03), "high": min(1.0, value + 0.03), "count": count}


def make_run(folder: Path, finished: bool = True) -> Path:
    """Write the folder; without `finished`, as it is after the cold start."""
    stages = STAGES if finished else STAGES[:2]
    outcomes = {name: _outcome(name, kind, control, value) for name, kind, control, value in stages}
    price = BillSection()
    actual = [
        stage_bill(o["stage"], o["tokens"], o["flops"], o["seconds"], price, _value(o)) for o in outcomes.values()
    ]
    predicted = [stage_bill(name, 1.1e6, 1.2e14, 111.0, price) for name, *_ in STAGES]
    state: dict[str, Any] = {
        "recipe": "quick", "seed": 0, "task": "countdown", "checker": "countdown@1",
        "started": "2026-01-01T12:00:00+0000",
        "versions": {"python": "3.11.7", "torch": "2.13.0", "raison": "0.1.0"}, "commit": "abc123", "machine": MACHINE,
        "outcomes": outcomes, "bill": Bill(tuple(predicted), with_points(actual, {})).to_json(),
    }  # fmt: skip
    if finished:
        state |= {"ended": "2026-01-01T12:40:00+0000", "evaluation": _evaluation()}
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(state))
    (folder / "recipe.toml").write_text(dump(load_recipe(RECIPE)))
    for name, kind, control, _ in stages:
        _metrics(folder / "stages" / name / "metrics.jsonl", name, kind, control)
    return folder


def _value(outcome: dict[str, Any]) -> float | None:
    return outcome["accuracy"]["value"] if outcome["accuracy"] else None


def _outcome(name: str, kind: str, control: bool, value: float | None) -> dict[str, Any]:
    return {
        "stage": name, "kind": kind, "control": control, "steps": 100, "tokens": 1_000_000, "flops": 1e14,
        "seconds": 120.5,
        "accuracy": None if value is None else estimate(value), "thinking_tokens": None if value is None else 120.0,
    }  # fmt: skip


def _evaluation() -> dict[str, Any]:
    curve = {0: 0.05, 64: 0.31, 128: 0.58, 256: 0.83, 512: 0.93}
    rest = {"samples": 1, "tokens_per_problem": 150.0, "closed_share": 0.1, "seconds": 3.0}
    trace = {"prompt": "3 7 25 -> 46", "thinking": f"7*3=21\n{HOSTILE}", "answer": "7 * 3 + 25"}
    return {
        "problems": 1000, "level": 3, "temperature": 1.0,
        "budgets": [{"budget": b, "pass_at_1": estimate(v), "best_of_n": estimate(v), "thinking_tokens": b / 3, **rest}
                    for b, v in curve.items()],
        "votes": [{"votes": k, "best_of": estimate(v)} for k, v in {1: 0.93, 2: 0.97, 4: 0.99, 8: 1.0}.items()],
        "best_of_seconds": 20.0,
        "samples": {"solved": trace, "failed": {**trace, "answer": "7 * 3"}},
    }  # fmt: skip


def _metrics(path: Path, name: str, kind: str, control: bool) -> None:
    rng = random.Random(name)
    with MetricsWriter(path) as metrics:
        for step in range(1, 101):
            progress = 0.0 if control else step / 100
            noise = rng.gauss(0, 0.04)
            figures = {"loss": 2.0 - progress + noise, "grad_norm": 1.0}
            if kind == "grpo":
                figures |= {
                    "reward": 0.5 + 0.4 * progress + noise, "solved": 0.6 + 0.3 * progress + noise,
                    "dead": 0.3 + 0.3 * progress + noise, "entropy": 0.5 - 0.3 * progress + noise,
                    "length": 150 - 60 * progress + 100 * noise, "truncated": abs(0.05 - 0.04 * progress + noise / 5),
                }  # fmt: skip
            metrics.write(StepMetrics(name, step, 100, 10_000, 1.2, figures))
