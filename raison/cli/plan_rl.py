"""`raison plan rl MODEL --chip C --chips N`: what reinforcement learning takes: rollouts, scores, updates, money.

Not covered: the arithmetic (raison.plan.rl), how fast chips sample (raison.plan.rl_sampling).
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from raison.cli.given import above_zero, whole_number
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
ROUNDED = 0.02
"""Shares of rounds that are written with two digits are 1 together within this."""


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
    said = (*shape.assumed, *said, *_assumed(arguments, recipe))
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
    longest = limits_in(arguments.longest) if arguments.longest else ((1.0, LONGEST * arguments.output),)
    return Recipe(arguments.steps, answers, arguments.output, longest, arguments.round or answers,
                  arguments.input, waits=not arguments.asynchronous)  # fmt: skip


def limits_in(text: str) -> tuple[tuple[float, float], ...]:
    """`32768`, or limits that were raised on the way, each with its share of the rounds: `32768:0.79,65536:0.21` ->
    ((0.79, 32768), (0.21, 65536)). UserError where it is neither, or the shares are not 1 together."""
    pairs = [word.partition(":") for word in text.split(",")]
    found = tuple((above_zero(share or "1", "--longest"), float(whole_number(limit, "--longest")))
                  for limit, _, share in pairs)  # fmt: skip
    total = sum(share for share, _ in found)
    if abs(total - 1) > ROUNDED:
        raise UserError(f"the shares of rounds in --longest {text} are {total:g} together; they must be 1, as in "
                        "32768:0.79,65536:0.21")  # fmt: skip
    return found


def _assumed(arguments: Namespace, recipe: Recipe) -> Iterator[str]:
    often = (f" in {share:.0%} of the rounds" if share < 1 else "" for share, _ in recipe.longest)
    limits = (f"{limit:,.0f} tokens{part}" for (_, limit), part in zip(recipe.longest, often, strict=True))
    yield f"answers of at most {', '.join(limits)}"
    guessed = f"{arguments.guess:g} tokens a step by guessing ahead"
    yield guessed if arguments.guess != 1 else "no guessing ahead: --guess where rollouts speculate"


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
