"""Named benchmarks whose lengths and limits a row takes for granted: "MLPerf Inference v5.1 Server".

Lengths are means of the data sets in tokens, limits are those of the rules (mlcommons/inference_policies, and for
DeepSeek-R1 mlcommons/inference's README of the benchmark). Not covered: accuracy targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from raison.plan.rows import Row


@dataclass(frozen=True, slots=True)
class Suite:
    """One benchmark's model."""

    name: str
    isl: float
    osl: float
    tpot: Mapping[str, float] = field(default_factory=dict)
    """Seconds of a token at most, at the 99th percentile, by scenario."""

    def tpot_limit(self, words: str) -> float:
        """The limit of the scenario that `words` name; inf offline."""
        return next((limit for scenario, limit in self.tpot.items() if scenario in words), inf)


MLPERF: Mapping[str, Suite] = {
    "deepseek": Suite("MLPerf DeepSeek-R1", 800, 3880, {"interactive": 0.015, "server": 0.08}),
    "405b": Suite("MLPerf Llama-3.1-405B", 9428, 684, {"interactive": 0.08, "server": 0.175}),
    "llama-2-70b": Suite("MLPerf Llama-2-70B", 294, 294, {"interactive": 0.04, "server": 0.2}),
    "llama2-70b": Suite("MLPerf Llama-2-70B", 294, 294, {"interactive": 0.04, "server": 0.2}),
    "8b": Suite("MLPerf Llama-3.1-8B", 778, 128, {"interactive": 0.03, "server": 0.1}),
    "mixtral": Suite("MLPerf Mixtral-8x7B", 400, 145, {"server": 0.2}),
    "gpt-oss": Suite("MLPerf gpt-oss-120b", 1024, 1200, {"interactive": 0.015, "server": 0.08}),
    "70b": Suite("MLPerf Llama-70B", 294, 294, {"interactive": 0.04, "server": 0.2}),
}


def suite_of(row: Row) -> Suite | None:
    """The benchmark that a row belongs to; None for none."""
    if "mlperf" not in f"{row.text} {row.source} {row.id}".lower() and "mlcommons" not in row.source.lower():
        return None
    model = row.model.lower()
    return next((suite for name, suite in MLPERF.items() if name in model), None)
