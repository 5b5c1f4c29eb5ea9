"""The frontier of a chip: what a user and what a chip get, over every layout and number of streams.

Not covered: its plot (cli/plan_compare.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from raison.plan.calibration import Calibration
from raison.plan.interval import Interval
from raison.plan.question import Posed, Question, pose
from raison.plan.search import Choice, choices, staged
from raison.plan.serving import most_streams, with_streams
from raison.plan.setup import Layout

GRID = 2**0.5
"""Ratio of neighbouring numbers of streams."""


@dataclass(frozen=True, slots=True)
class Frontier:
    """Choices that no other beats in both, from the fastest user to the cheapest chip."""

    question: Question
    points: tuple[Choice, ...]
    calibration: Calibration
    engine: str
    assumptions: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.question.shape.name} on {self.question.chip.name}"

    def interval(self, tokens: float, metric: str) -> Interval:
        """A rate with its stated 80 % interval."""
        return Interval.within(tokens, self.calibration.spread(metric, "", self.engine))


def frontier(question: Question) -> Frontier:
    """The frontier of a question; no points where nothing fits. UserError where it makes no sense."""
    posed = pose(question)
    found = sorted(_all(question, posed), key=lambda c: (-c.a_user, -c.a_chip))
    points: list[Choice] = []
    for choice in found:
        if not points or choice.a_chip > points[-1].a_chip:
            points.append(choice)
    return Frontier(question, tuple(points), posed.calibration, posed.case.engine, posed.assumptions)


def _all(question: Question, posed: Posed) -> list[Choice]:
    """Every choice of one stage; of several where there is none."""
    for layouts in staged(posed.layouts):
        if found := [choice for layout in layouts for choice in _over_streams(question, posed, layout)]:
            return found
    return []


def _over_streams(question: Question, posed: Posed, layout: Layout) -> Iterator[Choice]:
    most, streams = most_streams(replace(posed.case, layout=layout)), question.streams or 1.0
    while streams <= most:
        case = with_streams(posed.case, streams)
        yield from choices(case, (layout,), posed.calibration.constants, question.limits)
        if question.streams:
            break
        streams *= GRID
