"""A frontier's result: every measured point, the laws with their intervals, and the recommended splits. Plain values.

Not covered: pictures and the page of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from raison.bench.frontier.allocate import Bounds, Range, Recommendation, recommend
from raison.bench.frontier.fitting import Fitted, fit_laws
from raison.bench.frontier.grid import Grid
from raison.bench.frontier.laws import World
from raison.bench.frontier.prices import CURRENCIES, Currency, Prices, prices_of, total
from raison.bench.frontier.record import Point, Record
from raison.errors import UserError

RUNGS = 5
"""Budgets that a split is recommended for, from the cheapest measured point's to the dearest's; the middle one is the
one that is quoted and checked, where nobody asks for another."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A measured way of answering, with all that it costs."""

    record: Record
    point: Point
    flops: float
    usd: float


@dataclass(frozen=True, slots=True)
class Analysis:
    """What the cells say together."""

    placed: tuple[Placed, ...]
    fitted: Fitted
    worlds: tuple[World, ...]
    prices: Mapping[Currency, Mapping[str, Prices]]
    ladders: Mapping[Currency, tuple[Recommendation, ...]]
    asked: Recommendation | None = None
    """For the budget that the user named, in FLOPs."""

    def quoted(self, currency: Currency = "flops") -> Recommendation:
        """What was asked for, or the middle rung, counted from the dearest: the cheapest may buy nothing."""
        if self.asked is not None and currency == "flops":
            return self.asked
        ladder = self.ladders[currency]
        return ladder[max(0, len(ladder) - 1 - RUNGS // 2)]


def analyse(grid: Grid, records: Sequence[Record], flops: float | None = None) -> Analysis:
    """`flops` is the budget to quote. Raises UserError where it buys nothing, or where a law cannot be fitted."""
    placed = tuple(
        Placed(record, point, *(total(grid, record, point, currency) for currency in CURRENCIES))
        for record in records for point in record.points
    )  # fmt: skip
    fitted = fit_laws(grid, records)
    bounds = Bounds.of(grid)
    worlds = tuple(World.of(laws, bounds.votes) for laws in (fitted.laws, *fitted.draws))
    prices = {currency: prices_of(grid, records, currency) for currency in CURRENCIES}
    ladders = {
        currency: _ladder(worlds, prices[currency], [getattr(one, currency) for one in placed], bounds)
        for currency in CURRENCIES
    }
    asked = None if flops is None else _asked(recommend(worlds, prices["flops"], flops, bounds), flops)
    return Analysis(placed, fitted, worlds, prices, ladders, asked)


def _asked(found: Recommendation | None, flops: float) -> Recommendation:
    if found is None:
        raise UserError(f"{flops:.2e} FLOPs do not pay for the smallest model and its answers; give --flops more")
    return found


def _ladder(
    worlds: Sequence[World], prices: Mapping[str, Prices], totals: Sequence[float], bounds: Bounds
) -> tuple[Recommendation, ...]:
    budgets = np.geomspace(min(totals), max(totals), RUNGS)
    found = (recommend(worlds, prices, float(budget), bounds) for budget in budgets)
    return tuple(one for one in found if one is not None)


def pareto(placed: Sequence[Placed], currency: Currency) -> list[Placed]:
    """Those that no cheaper one equals in accuracy, cheapest first."""
    found: list[Placed] = []
    for one in sorted(placed, key=lambda p: (getattr(p, currency), -p.point.accuracy.value)):
        if not found or one.point.accuracy.value > found[-1].point.accuracy.value:
            found.append(one)
    return found


def constants(fitted: Fitted) -> dict[str, Range]:
    """Every constant of the laws with its 80 % interval."""
    values = _flat(asdict(fitted.laws))
    drawn = [_flat(asdict(laws)) for laws in fitted.draws]
    return {
        name: Range(value, *np.quantile([one[name] for one in drawn] or [value], (0.1, 0.9)).tolist())
        for name, value in values.items() if name not in ("largest", "selector", "told_by")
    }  # fmt: skip


def to_json(grid: Grid, records: Sequence[Record], analysis: Analysis) -> dict[str, Any]:
    best = {currency: pareto(analysis.placed, currency) for currency in CURRENCIES}
    return {
        "cells": [_cell(record) for record in records],
        "points": [
            _point(one) | {f"on_frontier_{currency}": one in best[currency] for currency in CURRENCIES}
            for one in analysis.placed
        ],
        "answers": grid.answers,
        "laws": {name: asdict(value) for name, value in constants(analysis.fitted).items()},
        "accuracy_told_by": analysis.fitted.laws.told_by,
        "residuals": analysis.fitted.rms,
        "fitted_points": analysis.fitted.points,
        "recommended": {c: [asdict(one) for one in ladder] for c, ladder in analysis.ladders.items()},
        "quoted": {c: asdict(analysis.quoted(c)) for c, ladder in analysis.ladders.items() if ladder},
    }


def _cell(record: Record) -> dict[str, Any]:
    row = asdict(record)
    return {key: value for key, value in row.items() if key not in ("points", "right")} | {"id": record.cell.id}


def _point(one: Placed) -> dict[str, Any]:
    row = asdict(one.point)
    del row["each"]
    return {"cell": one.record.cell.id, **row, "total_flops": one.flops, "total_usd": one.usd}


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, tuple):
            value = {"intercept": value[0], "slope": value[1]}
        found |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {before + name: value}
    return found
