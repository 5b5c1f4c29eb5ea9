"""Rows of published figures about reinforcement learning: chip-hours, wall time and money of whole runs.

A run whose recipe is published is computed by rl.py. Of the others only the accounts can be checked: where a row states
its chips and its wall time, their product. Not covered: what was learnt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from raison.errors import UserError
from raison.plan.chips import Chip, chip_in
from raison.plan.interval import Interval
from raison.plan.models import described_model
from raison.plan.published_runs import known_recipe
from raison.plan.rl import recipe_of, rl_bill
from raison.plan.rl_sampling import sampling_speed
from raison.plan.rows import Prediction, Row
from raison.plan.training import catalogue_price
from raison.plan.utilization import Case, Utilization, fitted

GROUP = "reinforcement learning"
METRICS = ("gpu_hours", "cost", "wall_time")
WORDS = (r"\brl\b", r"grpo", r"\bppo\b", r"reinforce", r"rlvr", r"\brlhf\b", r"on-policy", r"r1-zero")
ACCOUNT = 1.1
"""How far rounded hours, chips and prices are off."""


def is_reinforced(row: Row) -> bool:
    """Whether a row is about a run of reinforcement learning."""
    return row.metric in METRICS and "/" not in row.unit and (
        row.workload.says(*WORDS) or known_recipe(row.model) is not None)  # fmt: skip


def predict(row: Row, law: Utilization | None = None) -> Prediction:
    """Hours, days or dollars of a run. UserError where neither a recipe nor its accounts are known."""
    recipe = known_recipe(row.model)
    hours, said = _computed(row, recipe, law or fitted()) if recipe else _accounted(row)
    return Prediction(_in_unit(row, hours), GROUP, said)


def _computed(row: Row, published: Mapping[str, Any], law: Utilization) -> tuple[Interval, tuple[str, ...]]:
    """Chip-hours by the recipe."""
    shape = described_model(row.model, row.params_total, row.params_active)
    chip, recipe = _chip(row, published), recipe_of(published)
    chips = int(row.chips or published["chips"])
    precision = published.get("precision", "bf16")
    case = Case(chip, precision, shape.active, experts=shape.experts > 0, chips=chips)
    speed, said = sampling_speed(shape, chip, chips, recipe, precision, published.get("guess", 1.0))
    bill = rl_bill(recipe, shape, case, law, speed)
    return bill.bill.chip_hours, (*said, f"sampling waits for {bill.bound}", f"recipe: {published['source']}")


def _accounted(row: Row) -> tuple[Interval, tuple[str, ...]]:
    """Chip-hours as the row's own words and chips make them."""
    hours = row.workload.hours
    if not hours or not row.chips:
        raise UserError("neither its recipe is published nor both its chips and its hours are in the row")
    return Interval.within(hours * row.chips, ACCOUNT), (f"{hours:g} h x {row.chips:g} chips, as the row says",)


def _in_unit(row: Row, hours: Interval) -> Interval:
    if row.metric == "gpu_hours":
        return hours
    if row.metric == "wall_time":
        if not row.chips:
            raise UserError("wall time needs the number of chips")
        return hours / row.chips / (24 if row.unit.startswith("d") else 1)
    if row.workload.usd_per_hour:
        return hours * row.workload.usd_per_hour
    price = catalogue_price(_chip(row, {}))
    if price is None:
        raise UserError(f'neither the row nor the catalogue has a price of "{row.hardware}"')
    return hours * price


def _chip(row: Row, published: Mapping[str, Any]) -> Chip:
    named = (row.hardware, re.split(r"[-/ ]", row.unit)[0], published.get("chip", ""))
    chip = next((found for name in named if name and (found := chip_in(name))), None)
    if chip is None:
        raise UserError(f'no known chip is named by "{row.hardware or row.unit}"')
    return chip
