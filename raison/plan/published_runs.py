"""What is published of known training runs and benchmarks: tokens, sequences, teachers, recipes, rates.

Facts, not fits: figures/training_runs.json, each entry with its source. They fill in what a row of published figures
or a user leaves out, and every use is named among the assumptions. Not covered: shapes (models.py), chips (chips.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import exp, log
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "figures" / "training_runs.json"


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a pre-training run."""

    name: str
    tokens: float
    sequence: int


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """A model's pre-training."""

    name: str
    tokens: float
    sequence: int
    source: str
    phases: tuple[Phase, ...] = ()
    """After the main one."""
    teacher_parameters: float = 0.0
    """Of teachers whose logits were computed for every token."""
    precision: str = ""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """An MLPerf Training task: samples until its target, by batch."""

    name: str
    sequence: int
    samples: Mapping[float, float]
    frozen: bool
    """Only adapters are trained."""
    source: str

    def samples_at(self, batch: float) -> float:
        """A power law between the reference's batches; at the ends the nearest one's."""
        points = sorted(self.samples.items())
        batch = min(max(batch, points[0][0]), points[-1][0])
        for (b0, s0), (b1, s1) in pairwise(points):
            if b0 <= batch <= b1:
                return exp(log(s0) + (log(s1) - log(s0)) * (log(batch) - log(b0)) / (log(b1) - log(b0)))
        return points[0][1]


def known_run(model: str) -> PublishedRun | None:
    """The run of `model`, by the longest name among its words; None where there is none."""
    entry = _longest(model, "pretraining", "aliases")
    if entry is None:
        return None
    name, values = entry
    phases = tuple(Phase(**phase) for phase in values.get("phases", ()))
    return PublishedRun(name, values["tokens"], values["sequence"], values["source"], phases,
                        values.get("teacher_parameters", 0.0), values.get("precision", ""))  # fmt: skip


def known_benchmark(model: str) -> Benchmark | None:
    """The MLPerf task on `model`; None where there is none."""
    entry = _longest(model, "mlperf", "names")
    if entry is None:
        return None
    name, values = entry
    samples = {float(batch): float(count) for batch, count in values["samples"].items()}
    return Benchmark(name, values["sequence"], samples, values.get("frozen", False), values["source"])


def known_recipe(model: str) -> Mapping[str, Any] | None:
    """The published recipe of a run of reinforcement learning; None where there is none."""
    entry = _longest(model, "rl", "names")
    return None if entry is None else {"name": entry[0], **entry[1]}


def published_rates(model: str) -> Mapping[str, Any]:
    """Rates that a report states itself, such as hours a trillion tokens. KeyError where there are none."""
    rates: Mapping[str, Any] = _facts()["rates"][model]
    return rates


def _longest(model: str, section: str, names: str) -> tuple[str, Mapping[str, Any]] | None:
    words = f" {_plain(model)} "
    found = [
        (len(alias), name) for name, values in _facts()[section].items()
        for alias in map(_plain, values[names]) if f" {alias} " in words
    ]  # fmt: skip
    return (max(found)[1], _facts()[section][max(found)[1]]) if found else None


@cache
def _facts() -> Mapping[str, Any]:
    facts: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return facts


def _plain(name: str) -> str:
    """`meta-llama/Llama-3.1-70B` -> `meta llama llama 3.1 70b`."""
    return " ".join(re.findall(r"[a-z0-9.]+", name.lower()))
