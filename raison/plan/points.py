"""Published rows as points that constants are fitted to, and the groups that are left out of a fit together.

Not covered: the fit (fit.py), what a row means (serving_cases.py, asked.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import log

from raison.errors import UserError
from raison.plan.asked import Asked, asked_of
from raison.plan.models import described_model
from raison.plan.rows import Row
from raison.plan.serving import Case, memory_of
from raison.plan.serving_cases import case_of
from raison.plan.serving_rows import resolved, value_of
from raison.plan.setup import Constants
from raison.plan.silicon import SOURCE

CAMPAIGNS = (SOURCE.partition(":")[0], "raison")
"""Sources of many models: each of these is left out on its own."""
ENOUGH = 1500
"""Points that a node, or a fit without one source, takes: every n-th of more."""


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement that can be predicted."""

    row: Row
    case: Case
    asked: Asked
    fold: str
    """What is left out together with it."""
    metric: str

    @property
    def open(self) -> bool:
        """Whether its streams and layout have to be searched, which depends on the constants."""
        return not self.case.load.streams

    def closed(self, constants: Constants) -> Point:
        """The point with the streams and the layout that are best with these constants."""
        return replace(self, case=resolved(self.case, self.row, constants)[0]) if self.open else self

    def error(self, constants: Constants) -> float:
        """ln(measured / predicted)."""
        case = self.closed(constants).case
        return log((self.row.value or 1.0) / value_of(case, self.asked, constants, self.row))


def points_of(rows: Iterable[Row]) -> list[Point]:
    """The rows that constants can be fitted to: serving, with a value above 0, in memory, not a claim (confidence
    "low"), not money, not so many streams that they wait for room."""
    return [point for row in rows if (point := _point(row))]


def fold_of(row: Row) -> str:
    """What is left out together with a row: its source, or its model, however spelled, within a source of many."""
    if row.origin not in CAMPAIGNS:
        return row.origin
    try:
        return f"{row.origin} {described_model(row.model, row.params_total, row.params_active).name}"
    except UserError:
        return f"{row.origin} {row.model}"


def thinned(points: Sequence[Point]) -> list[Point]:
    """Every n-th of the points of large sources, all of the others."""
    sizes = Counter(point.row.origin for point in points)
    every = 1 + len(points) // ENOUGH
    return [p for place, p in enumerate(points) if sizes[p.row.origin] < ENOUGH or place % every == 0]


def _point(row: Row) -> Point | None:
    told = row.value and row.value > 0 and row.confidence != "low"
    try:
        asked = asked_of(row) if told else None
        if asked is None or asked.metric.startswith("cost"):
            return None
        case = case_of(row, asked)[0]
    except UserError:
        return None
    room = memory_of(case).room
    if case.load.streams and (room < 1 or (asked.metric == "ttft" and room < case.load.streams)):
        return None
    return Point(row, case, asked, fold_of(row), asked.spread)
