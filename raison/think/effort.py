"""Effort levels as thinking budgets of the model at hand: measured where they can be, by share of the context else.

A measured curve (accuracy over budgets, `measure.over_budgets`) gives each level the smallest budget that reaches a
share of all that thinking gains over answering at once: minimal a quarter, low a half, medium 80 %, high 95 %. `none`
answers at once; `max` (and `xhigh`, which some clients send) thinks as far as the context reaches. What was measured is
kept in the model's provenance under "efforts", written by `raison bench think --efforts` and by a run's evaluation.
Where nothing was measured: shares of the context, a 32nd to a quarter, doubling.
Not covered: what a budget does, and minimum thinking (engine, SamplingParams).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from raison.errors import UserError, nearest

NONE, MAX = "none", "max"
GAIN_SHARES = {"minimal": 0.25, "low": 0.5, "medium": 0.8, "high": 0.95}
CONTEXT_SHARES = {"minimal": 1 / 32, "low": 1 / 16, "medium": 1 / 8, "high": 1 / 4}
LEVELS = (NONE, *GAIN_SHARES, MAX)
_SAME = {"xhigh": MAX}
KEY = "efforts"


def budget_of(effort: str, provenance: Mapping[str, Any], context: int) -> int | None:
    """Thinking tokens of an effort level; None = as far as the context reaches. Raises UserError for an unknown one."""
    effort = _SAME.get(effort, effort)
    if effort not in LEVELS:
        raise UserError(f'effort is "{effort}": {nearest(effort, LEVELS)}')
    return budgets_of(provenance, context)[effort]


def budgets_of(provenance: Mapping[str, Any], context: int) -> dict[str, int | None]:
    """The budget of every level, in order."""
    measured = measured_efforts(provenance)
    found = measured or {level: max(1, round(share * context)) for level, share in CONTEXT_SHARES.items()}
    return {NONE: 0, **{level: min(found[level], context) for level in GAIN_SHARES}, MAX: None}


def measured_efforts(provenance: Mapping[str, Any]) -> dict[str, int] | None:
    """What a model's provenance holds, if it is whole and sound; files are written by others too."""
    found = provenance.get(KEY)
    if not isinstance(found, Mapping):
        return None
    budgets = [found.get(level) for level in GAIN_SHARES]
    if not all(type(budget) is int and budget >= 0 for budget in budgets):
        return None
    return dict(zip(GAIN_SHARES, budgets, strict=True))  # type: ignore[arg-type]  # the line above has looked


def provenance_of(curve: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """What a model folder keeps of a measured curve; nothing of one that does not begin at 0, as of a model that does
    not think.
    """
    if not curve or curve[0][0] != 0:
        return {}
    return {KEY: efforts_from(curve), "accuracy_over_budgets": [[budget, share] for budget, share in curve]}


def efforts_from(curve: Sequence[tuple[int, float]]) -> dict[str, int]:
    """The levels' budgets from a measured curve of (budget, accuracy), budgets rising from 0.

    Accuracy is first made monotone (the running maximum: more thinking can always be cut short), and between two
    budgets it is taken to rise in a straight line. A model that thinking does not help has 0 for every level.
    """
    if not curve or curve[0][0] != 0 or any(a >= b for (a, _), (b, _) in pairwise(curve)):
        raise ValueError("a curve needs budgets that rise from 0")
    best, risen = curve[0][1], []
    for budget, accuracy in curve:
        best = max(best, accuracy)
        risen.append((budget, best))
    base = risen[0][1]
    return {level: _reaches(risen, base + share * (best - base)) for level, share in GAIN_SHARES.items()}


def _reaches(risen: Sequence[tuple[int, float]], wanted: float) -> int:
    """The smallest budget at which the line through the points is at `wanted`."""
    if wanted <= risen[0][1]:
        return 0
    for (a, low), (b, high) in pairwise(risen):
        if high >= wanted:
            return a + round((b - a) * (wanted - low) / (high - low))
    return risen[-1][0]
