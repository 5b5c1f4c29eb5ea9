"""The layout and the number of streams that serve best within limits.

Where no number of streams is told: "price" fills each layout that fits with as many as the limits allow, since more
never make a chip's tokens dearer, and takes the most answer tokens/s a chip; "speed" takes one stream and its fastest
token, and of equally fast layouts the cheapest. Where chips and streams are both told, all chips stand there and are
paid for: as many instances of a layout as they hold share the streams. Not covered: mixed lengths, layouts mixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from raison.plan.serving import Case, Figures, figures, memory_of, most_streams, with_streams
from raison.plan.setup import Constants, Layout

Aim = Literal["price", "speed"]
BISECTIONS = 14
"""Halvings of the range of streams on a logarithmic scale: from 1 to 4,096 within a thousandth."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a service promises at most."""

    tpot: float = inf
    ttft: float = inf

    def met(self, found: Figures) -> bool:
        return found.speed.tpot <= self.tpot and found.speed.ttft <= self.ttft


@dataclass(frozen=True, slots=True)
class Choice:
    """One layout with its streams, and what it delivers."""

    case: Case
    figures: Figures

    @property
    def a_chip(self) -> float:
        """Answer tokens/s of a chip."""
        return self.figures.output / self.figures.chips

    @property
    def a_user(self) -> float:
        return self.figures.user


def choices(
    case: Case, layouts: Iterable[Layout], constants: Constants, limits: Limits, chips: int | None = None
) -> Iterator[Choice]:
    """What each layout that fits can do within the limits: with the case's streams where it names some (0 = none), or
    with an instance's share of them where its instances fill `chips` chips."""
    for layout in layouts:
        laid = replace(case, layout=layout)
        laid = with_streams(laid, case.load.streams * layout.chips / chips) if chips else laid
        if memory_of(laid).room < 1:
            continue
        filled = laid if case.load.streams else filled_up(laid, constants, limits)
        found = figures(filled, constants)
        if limits.met(found):
            yield Choice(filled, found)


def best(
    case: Case, layouts: Sequence[Layout], constants: Constants, limits: Limits, aim: Aim, chips: int | None = None
) -> Choice | None:
    """The choice that serves `aim` best; None where no layout fits and meets the limits."""
    if aim == "speed" and not case.load.streams:
        case = with_streams(case, 1.0)  # nobody is faster than a user who is alone
    keys = {"price": lambda c: (c.a_chip, c.a_user), "speed": lambda c: (round(c.a_user, 3), c.a_chip)}
    for some in staged(layouts):
        if found := max(choices(case, some, constants, limits, chips), key=keys[aim], default=None):
            return found
    return None


def staged(layouts: Sequence[Layout]) -> tuple[list[Layout], list[Layout]]:
    """Layouts of one stage, and the others: stages are for models that fit in no other way, as engines take them."""
    return [layout for layout in layouts if layout.pp == 1], [layout for layout in layouts if layout.pp > 1]


def filled_up(case: Case, constants: Constants, limits: Limits) -> Case:
    """The case with as many streams as the limits and its memory allow; with one where no number meets them."""
    low, high = 1.0, most_streams(case)
    if limits.met(figures(with_streams(case, high), constants)):
        return with_streams(case, high)
    for _ in range(BISECTIONS):
        middle = (low * high) ** 0.5
        within = limits.met(figures(with_streams(case, middle), constants))
        low, high = (middle, high) if within else (low, middle)
    return with_streams(case, max(1.0, float(int(low))))
