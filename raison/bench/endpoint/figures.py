"""Percentiles with intervals, and shares: what many requests say together.

Intervals are 95 % percentile-bootstrap intervals (Efron and Tibshirani 1993, section 13.3) over requests, with a fixed
seed. Of few requests they are too narrow at the ends: no resample holds what was never seen. Not covered: dependence
between requests that were under way together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from raison.bench.endpoint.records import Measured

PERCENTILES = (5, 25, 50, 75, 95)
GAP_PERCENTILES = (5, 25, 50, 75, 95, 99)
RESAMPLES, BLOCK = 2000, 100
"""Resamples, and how many are drawn at once."""
LIMITS = {"ttft": "ttft", "ttfat": "ttfat", "itl": "itl", "e2e": "end_to_end"}
"""What a limit may be set on, and the field of Measured it is compared with."""
TOLD = (
    "ttft", "ttfat", "output_speed", "itl", "longest_gap", "end_to_end", "response_500",
    "prompt_tokens", "thinking_tokens", "answer_tokens",
)  # fmt: skip
"""Fields of which percentiles are told."""


def distribution(values: Iterable[float | None]) -> dict[str, Any] | None:
    """Count, mean and percentiles, each with its interval; None where there is no value."""
    known_N = np.array([value for value in values if value is not None], dtype=float)
    if not len(known_N):
        return None
    drawn_SP = resampled(known_N)
    low_P, high_P = np.percentile(drawn_SP, (2.5, 97.5), axis=0)
    found: dict[str, Any] = {"count": len(known_N), "mean": float(known_N.mean())}
    for place, percentile in enumerate(PERCENTILES):
        value = float(np.percentile(known_N, percentile))
        found[f"p{percentile}"] = {"value": value, "low": float(low_P[place]), "high": float(high_P[place])}
    return found


def resampled(known_N: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[resamples, percentiles] of values drawn again with replacement."""
    numbers = np.random.default_rng(0)
    blocks = (known_N[numbers.integers(0, len(known_N), (BLOCK, len(known_N)))] for _ in range(RESAMPLES // BLOCK))
    return np.concatenate([np.percentile(block_BN, PERCENTILES, axis=1).T for block_BN in blocks])


def distributions(rows: Sequence[Measured]) -> dict[str, Any]:
    """Of every figure in TOLD, over answers that came to their end."""
    whole = [row for row in rows if row.whole]
    return {name: distribution(getattr(row, name) for row in whole) for name in TOLD}


def token_gaps(rows: Sequence[Measured]) -> dict[str, float] | None:
    """Percentiles over all tokens of the time a token took: a gap is shared evenly by the tokens that ended it."""
    pairs = [gap for row in rows if row.whole for gap in row.gaps]
    if not pairs:
        return None
    each_T = np.repeat([gap / count for gap, count in pairs], [count for _, count in pairs])
    return {
        f"p{p}": float(value) for p, value in zip(GAP_PERCENTILES, np.percentile(each_T, GAP_PERCENTILES), strict=True)
    }


def meets(row: Measured, limits: Mapping[str, float]) -> bool:
    """Whether it is whole and within every limit (goodput: Zhong et al. 2024, arXiv 2401.09670).

    An answer of one piece has no time between tokens, and none that is too long; a missing answer is never in time.
    """
    figures = {name: getattr(row, LIMITS[name]) for name in limits}
    return row.whole and all(
        (name == "itl") if figures[name] is None else figures[name] <= limit for name, limit in limits.items()
    )
