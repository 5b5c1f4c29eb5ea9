"""Whether a figure grows or shrinks over a run: a straight line by least squares, with the interval of its change.

Not covered: figures that lean on those before them, as memory does. Their interval comes out too narrow, so a verdict
on them needs a bound for the change itself too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from raison.bench.intervals import student


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
    half = student(free) * math.sqrt(rest / free / squares) * span
    return Trend(slope * span, slope * span - half, slope * span + half, mean)
