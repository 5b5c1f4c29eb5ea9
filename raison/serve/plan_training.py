"""The planner's findings on training as the API says them. Pure arithmetic, some milliseconds.

A curve keeps the layout that was found for the question itself. Not covered: the arithmetic (raison.plan), names of
models and chips (plan.py).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from math import inf

from raison.errors import InfeasibleError, UserError
from raison.plan.chips import Chip
from raison.plan.export import describe
from raison.plan.shape import Shape
from raison.plan.training import Bill
from raison.plan.training_plan import TrainingAsk, TrainingPlan, plan_training
from raison.plan.utilization import ATTENTION
from raison.serve.plan_view import Memory, TrainAsked, TrainFigures, TrainPlan, TrainPoint, parts, span, span_or_none


def train(asked: TrainAsked, shape: Shape, chip: Chip) -> TrainPlan:
    """The plan for `asked`; one that the planner refuses has its reason in `words`."""
    ask = TrainingAsk(
        shape,
        chip,
        asked.chips,
        asked.tokens,
        asked.sequence,
        precision=asked.precision,
        usd_per_hour=asked.usd_per_hour,
    )
    try:
        return _trained(asked, plan_training(ask))
    except UserError as error:
        return _refused(asked, ask, error)


def _refused(asked: TrainAsked, ask: TrainingAsk, why: UserError) -> TrainPlan:
    """It cannot be, or a figure of the chip is missing."""
    return TrainPlan(
        model=ask.shape.name,
        chip=ask.chip.name,
        chips=asked.chips,
        precision=asked.precision,
        layout="",
        verdict="infeasible" if isinstance(why, InfeasibleError) else "unknown",
        words=[str(why)],
        memory=Memory(parts=[], total=None),
        bound=[],
        assumptions=list(ask.shape.assumed),
        figures=None,
        curve=[],
    )


def _trained(asked: TrainAsked, plan: TrainingPlan) -> TrainPlan:
    attention = ATTENTION * plan.work.attention / plan.work.timed
    laid = replace(plan.ask, layout=plan.layout)
    bills = {tokens: plan_training(replace(laid, tokens=tokens)).bill for tokens in sorted(set(asked.curve))}
    flops = f"{plan.bill.flops:.3g} FLOPs in all, {plan.work.flops:.3g} a token"
    return TrainPlan(
        model=plan.ask.shape.name,
        chip=plan.ask.chip.name,
        chips=plan.chips,
        precision=asked.precision,
        layout=plan.layout.words,
        verdict="feasible",
        words=[],
        memory=_training_memory(plan),
        bound=parts({"matrix products": 1 - attention, "attention": attention}),
        assumptions=[*plan.assumptions, flops, describe(plan.ask.chip)],
        figures=_bill(plan.bill),
        curve=[TrainPoint(at=tokens, figures=_bill(bill)) for tokens, bill in bills.items()],
    )


def _training_memory(plan: TrainingPlan) -> Memory:
    """Of the fullest chip."""
    memory = plan.memory
    names = ("weights", "gradients", "optimizer", "activations")
    each = {name: value for name, value in asdict(memory).items() if name in names}
    if memory.available == inf:
        return Memory(parts=parts(each), total=None)
    total = (plan.ask.chip.mem_gb or 0.0) * 1e9
    spare = {"kept back": total - memory.available, "left over": memory.available - memory.total}
    return Memory(parts=parts({**each, **spare}), total=total)


def _bill(bill: Bill) -> TrainFigures:
    return TrainFigures(
        days=span_or_none(bill.days), chip_hours=span(bill.chip_hours), usd=span_or_none(bill.usd),
        kwh=span_or_none(bill.kwh), utilization=span(bill.utilization),
    )  # fmt: skip
