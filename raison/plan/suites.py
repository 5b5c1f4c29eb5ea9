"""Named benchmarks whose lengths and limits a row takes for granted: "MLPerf Inference v5.1 Server".

Lengths are means of the data sets in tokens, limits are those of the rules (mlcommons/inference_policies, and for
DeepSeek-R1 mlcommons/inference's README of the benchmark). From memory, and not read again for this file: every length
but DeepSeek-R1's answers, and the limits of Llama-3.1-8B, Mixtral and gpt-oss. Not covered: accuracy targets.
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
    ttft: Mapping[str, float] = field(default_factory=dict)
    """Seconds to the first token at most, likewise."""

    def tpot_limit(self, words: str) -> float:
        """The limit of the scenario that `words` name; inf offline."""
        return _limit(self.tpot, words)

    def ttft_limit(self, words: str) -> float:
        """The same for the first token."""
        return _limit(self.ttft, words)


def _limit(limits: Mapping[str, float], words: str) -> float:
    return next((limit for scenario, limit in limits.items() if scenario in words), inf)


LLAMA_70B = Suite(
    "MLPerf Llama-2-70B", 294, 294, {"interactive": 0.04, "server": 0.2}, {"interactive": 0.45, "server": 2.0}
)
MLPERF: Mapping[str, Suite] = {
    "deepseek": Suite(
        "MLPerf DeepSeek-R1", 800, 3880, {"interactive": 0.015, "server": 0.08}, {"interactive": 1.5, "server": 2.0}
    ),
    "405b": Suite(
        "MLPerf Llama-3.1-405B", 9428, 684, {"interactive": 0.08, "server": 0.175}, {"interactive": 4.5, "server": 6.0}
    ),
    "8b": Suite(
        "MLPerf Llama-3.1-8B", 778, 128, {"interactive": 0.03, "server": 0.1}, {"interactive": 0.5, "server": 2.0}
    ),
    "mixtral": Suite("MLPerf Mixtral-8x7B", 400, 145, {"server": 0.2}, {"server": 2.0}),
    "gpt-oss": Suite("MLPerf gpt-oss-120b", 1024, 1200, {"interactive": 0.015, "server": 0.08}, {"server": 3.0}),
    "70b": LLAMA_70B,
}


def suite_of(row: Row) -> Suite | None:
    """The benchmark that a row belongs to; None for none."""
    if "mlperf" not in f"{row.text} {row.source} {row.id}".lower() and "mlcommons" not in row.source.lower():
        return None
    model = row.model.lower()
    return next((suite for name, suite in MLPERF.items() if name in model), None)
