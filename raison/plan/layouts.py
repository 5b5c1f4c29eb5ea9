"""Layouts of a model over chips: the usual one, the smallest, and all that there are to search.

Not covered: their speed (serving.py), placement of single experts, replicas of hot experts.
"""

from __future__ import annotations

from collections.abc import Iterator

from raison.plan.batching import Load
from raison.plan.chips import Chip
from raison.plan.precision import Width
from raison.plan.serving import Case, memory_of
from raison.plan.setup import Layout
from raison.plan.shape import Shape

LARGEST = 4096
UNIT = 144
"""Chips of a decoding unit at most: DeepSeek's (open-infra-index, day 6)."""
MOST_SHARED = 16
"""Chips that share a layer out at most: heads and columns get too few beyond."""
ROOMY = 8.0
"""Sequences that the smallest layout has room for."""


def layout_for(shape: Shape, chip: Chip, chips: int) -> Layout:
    """The usual layout over so many chips: one tensor-parallel group in a scale-up domain; beyond eight chips,
    data-parallel attention and shared experts for models with experts, stages of eight for dense ones."""
    if chips <= 8 or chip.kind in ("rdu", "sram"):
        return Layout(tp=chips, ep=shape.routed > 0)
    if shape.routed:
        return Layout(dp=min(chips, UNIT), ep=True)
    return Layout(tp=8)


def smallest(shape: Shape, chip: Chip, width: Width, load: Load) -> int:
    """The fewest chips, a power of two, that hold the weights and ROOMY sequences (one that is a whole node at most
    where a node does)."""
    count = chip.domain if chip.kind in ("sram", "rdu") else 1
    while count < LARGEST:
        case = Case(shape, chip, width, Layout(tp=count), load)
        if memory_of(case).room >= ROOMY:
            break
        count *= 2
    return count


def candidates(shape: Shape, chips: int | None, domain: int) -> Iterator[Layout]:
    """Every sensible layout over `chips`, or over any number up to two domains: powers of two and whole domains, a
    layer shared out within a domain, and with experts also attention in ranks."""
    most = chips or 2 * max(8, domain)
    sizes = sorted({n for n in (*(1 << power for power in range(11)), 12, 24, 36, 48, most, domain) if n <= most})
    for tp in (n for n in sizes if n <= min(max(domain, 8), MOST_SHARED)):
        for pp in (1, 2, 4, 8):
            for dp in sizes if shape.routed else (1,):
                layout = Layout(tp, pp, dp, ep=bool(shape.routed) and tp * dp > 1)
                if layout.chips <= most and (chips is None or chips % layout.chips == 0):
                    yield layout
