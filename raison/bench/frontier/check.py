"""The recommended split put to the test: trained within the same budget beside all of it spent on one law.

Each arm is the best split that the laws know under its restriction, trained anew and answering the same problems.
Arms that spend all on training or reinforcement answer with one sample that may think to its end. Not covered: several
seeds of training; an arm is one run, and the intervals are over problems alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from raison.bench.frontier.allocate import LAWS, Bounds, Split, best
from raison.bench.frontier.cells import Cell, chain
from raison.bench.frontier.grid import Grid
from raison.bench.frontier.prices import total
from raison.bench.frontier.record import Point, Record
from raison.bench.frontier.result import Analysis
from raison.bench.intervals import Difference, paired_difference

RECOMMENDED = "recommended"


@dataclass(frozen=True, slots=True)
class Arm:
    name: str
    split: Split
    record: Record
    point: Point
    flops: float
    """What it took, training and all answers."""


@dataclass(frozen=True, slots=True)
class Check:
    budget: float
    """FLOPs that every arm may take."""
    arms: tuple[Arm, ...]
    differences: Mapping[str, Difference]
    """The recommended arm's accuracy less each other's, in pairs over the problems."""


def splits(grid: Grid, analysis: Analysis) -> dict[str, Split]:
    """By arm, the recommended one first; an arm that the budget does not reach is left out."""
    budget = analysis.quoted().total
    bounds, world, prices = Bounds.of(grid), analysis.worlds[0], analysis.prices["flops"]
    found: dict[str, Split] = {RECOMMENDED: analysis.quoted().split}
    for law in LAWS:
        split = best(world, prices, budget, bounds.only(law))
        if split is not None:
            found[f"all on {law}"] = split
    return found


def cells_of(grid: Grid, split: Split) -> list[Cell]:
    steps = round(split.samples / (grid.grpo.problems * grid.grpo.group_size))
    return chain(split.size, round(split.tokens), *([steps] if steps else []))


def run_check(grid: Grid, analysis: Analysis, make: Callable[[list[Cell]], list[Record]]) -> Check:
    """`make` trains and measures cells, each after the one that it goes on from."""
    chosen = splits(grid, analysis)
    cells = list(dict.fromkeys(cell for split in chosen.values() for cell in cells_of(grid, split)))
    made = dict(zip(cells, make(cells), strict=True))
    arms = [_arm(grid, name, split, made[cells_of(grid, split)[-1]]) for name, split in chosen.items()]
    differences = {arm.name: paired_difference(arms[0].point.each, arm.point.each) for arm in arms[1:]}
    return Check(analysis.quoted().total, tuple(arms), differences)


def to_json(check: Check) -> dict[str, Any]:
    rows = []
    for arm in check.arms:
        difference = check.differences.get(arm.name)
        rows.append({
            "arm": arm.name, "split": asdict(arm.split), "flops": arm.flops, "accuracy": asdict(arm.point.accuracy),
            "predicted": arm.split.accuracy, "model_sha256": arm.record.model_sha256,
            "recommended_less_this": None if difference is None else asdict(difference),
        })  # fmt: skip
    return {"budget_flops": check.budget, "arms": rows, "problems_sha256": check.arms[0].record.problems_sha256}


def _arm(grid: Grid, name: str, split: Split, record: Record) -> Arm:
    point = record.at(split.budget, split.votes)
    return Arm(name, split, record, point, total(grid, record, point, "flops"))
