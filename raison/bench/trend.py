"""Whether a figure grows or shrinks over a run: a straight line by least squares, with the interval of its change.

Not covered: figures that lean on those before them, as memory does. Their interval comes out too narrow, so a verdict
on them needs a bound for the change itself too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from raison.think.measure import Z95


@dataclass(frozen=True, slots=True)
class Trend:
    """The change from the first to the last place on the line, with its 95 % interval, in units of the figure."""

    change: float
    low: float
    high: float
    mean: float


def trend(at: Sequence[float], values: Sequence[float]) -> Trend:
    """The line through `values` over `at`, which must differ. Raises ValueError for fewer than three points."""
    if len(values) < 3:
        raise ValueError(f"{len(values)} points; a trend needs three")
    centre, mean, span = fmean(at), fmean(values), max(at) - min(at)
    squares = sum((x - centre) ** 2 for x in at)
    slope = sum((x - centre) * (y - mean) for x, y in zip(at, values, strict=True)) / squares
    rest = sum((y - mean - slope * (x - centre)) ** 2 for x, y in zip(at, values, strict=True))
    free = len(values) - 2
    half = _student(free) * math.sqrt(rest / free / squares) * span
    return Trend(slope * span, slope * span - half, slope * span + half, mean)


def _student(free: int) -> float:
    """The 97.5 % point of Student's t, exact for one and two degrees of freedom, else within 1 %.

    Abramowitz & Stegun 26.7.5, to the third term.
    """
    if free <= 2:
        return (12.7062, 4.3027)[free - 1]
    z = Z95
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * free**3)
    return z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2) + third
