"""`raison plan rl MODEL --chip C --chips N`: what reinforcement learning takes: rollouts, scores, updates, money.

Not covered: the arithmetic (raison.plan.rl), how fast chips sample (raison.plan.rl_sampling).
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from raison.cli.output import console_for, emit_json
from raison.cli.plan_tables import assumptions, figure, interval_json, lines, refused, short
from raison.errors import InfeasibleError, UserError
from raison.plan.chips import count_in, find_chip
from raison.plan.models import find_model
from raison.plan.rl import Recipe, RlBill, Sampling, rl_bill
from raison.plan.rl_sampling import sampling_speed
from raison.plan.utilization import Case, fitted

LONGEST = 4
"""The limit of an answer over its mean length, where none is given."""


def command(arguments: Namespace) -> int:
    shape, chip = find_model(arguments.model), find_chip(arguments.chip)
    recipe = recipe_of(arguments)
    chips = count_in(arguments.chip) if arguments.chips is None else arguments.chips
    if not chips or chips < 1:
        raise UserError("how long rollouts take depends on the number of chips: give --chips of at least 1")
    try:
        speed, said = sampling_speed(shape, chip, chips, recipe, arguments.precision, arguments.guess)
    except InfeasibleError as why:
        return refused(arguments, why)
    case = Case(chip, arguments.precision, shape.active, experts=shape.experts > 0, chips=chips)
    bill = rl_bill(recipe, shape, case, fitted(), speed, arguments.usd_per_hour)
    said = (*shape.assumed, *said, f"answers of at most {recipe.longest[0][1]:,.0f} tokens")
    if arguments.json:
        emit_json({"verdict": "feasible", **as_json(recipe, speed, bill, said)})
        return 0
    console = console_for(arguments)
    console.print(f"[bold]{shape.name}[/bold]  {recipe.steps:,.0f} steps of {recipe.answers:,.0f} answers on "
                  f"{chips:,} x {chip.name}, {arguments.precision}")  # fmt: skip
    console.print(lines(_rows(recipe, speed, bill)))
    assumptions(console, said)
    return 0


def recipe_of(arguments: Namespace) -> Recipe:
    answers = arguments.prompts * arguments.samples
    longest = arguments.longest or LONGEST * arguments.output
    return Recipe(arguments.steps, answers, arguments.output, ((1.0, longest),), arguments.round or answers,
                  arguments.input, waits=not arguments.asynchronous)  # fmt: skip


def as_json(recipe: Recipe, speed: Sampling, bill: RlBill, said: tuple[str, ...]) -> dict[str, Any]:
    paid = bill.bill
    return {
        "recipe": asdict(recipe), "tokens": recipe.tokens, "bound": bill.bound,
        "tokens_per_second_per_chip": interval_json(speed.tokens_a_chip), "tpot_s": interval_json(speed.tpot),
        "sampling_hours": interval_json(bill.sampling), "scoring_hours": interval_json(bill.scoring),
        "update_hours": interval_json(bill.updates), "flops": paid.flops,
        "chip_hours": interval_json(paid.chip_hours), "days": interval_json(paid.days),
        "usd": interval_json(paid.usd), "kwh": interval_json(paid.kwh), "assumptions": list(said),
    }  # fmt: skip


def _rows(recipe: Recipe, speed: Sampling, bill: RlBill) -> Iterator[tuple[str, str, str]]:
    yield "tokens sampled", short(recipe.tokens), f"{recipe.rounds:,.0f} rounds of {recipe.round:,.0f} answers"
    yield "speed", *figure(speed.tokens_a_chip, "tokens/s a chip at a round's batch")
    yield "rollouts", *figure(bill.sampling, f"hours; they wait for {bill.bound}")
    yield "scores", *figure(bill.scoring, "hours: the old policy and a reference read every answer")
    yield "updates", *figure(bill.updates, "hours")
    yield "chip-hours", *figure(bill.bill.chip_hours, "with waiting and handing over weights")
    yield "time", *figure(bill.bill.days, "days")
    yield "money", *figure(bill.bill.usd, "dollars")
    yield "energy", *figure(bill.bill.kwh, "kWh")
