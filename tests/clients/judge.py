"""What lm-evaluation-harness calls for every answer."""

from __future__ import annotations

from typing import Any

from raison.records import Problem
from raison.tasks.catalog import load_task


def process(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    problem = Problem("countdown", doc["prompt"], meta=doc["meta"])
    return {"acc": float(load_task("countdown").check(problem, results[0]).correct)}
