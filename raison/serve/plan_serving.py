"""The planner's findings on serving as the API says them. Pure arithmetic, some milliseconds.

A curve keeps the layout that was found for the question itself, because that is what would stand in the rack. Not
covered: the arithmetic (raison.plan), names of models and chips (plan.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf

from raison.plan.answer import Speeds, answer, rack_of
from raison.plan.chips import Chip
from raison.plan.precision import WIDTHS
from raison.plan.question import Question, Wish, pose
from raison.plan.search import Choice, best
from raison.plan.serving import Case, memory_of
from raison.plan.setup import Layout
from raison.plan.shape import Shape
from raison.serve.plan_view import (
    Memory,
    Part,
    ServeAsked,
    ServeFigures,
    ServePlan,
    ServePoint,
    Verdict,
    parts,
    span,
)

VERDICTS: Mapping[str, Verdict] = {"served": "feasible", "saturated": "saturated", "infeasible": "infeasible"}


def serve(asked: ServeAsked, shape: Shape, chip: Chip) -> ServePlan:
    """The plan for `asked`. UserError where the planner cannot read it."""
    question = Question(
        shape, chip, asked.input, asked.output, asked.streams, chips=asked.chips,
        width=WIDTHS[asked.precision] if asked.precision else None, usd_per_hour=asked.usd_per_hour,
    )  # fmt: skip
    found = answer(question)
    case = found.choice.case if found.choice else _refused_case(question)
    return ServePlan(
        model=shape.name,
        chip=chip.name,
        chips=asked.chips,
        precision=case.width.name,
        layout=case.layout.words,
        verdict=VERDICTS[found.verdict],
        words=[found.why] if found.why else [],
        memory=_memory(case, asked),
        bound=_bound(found.choice),
        assumptions=[*found.assumptions, f"a rack has {rack_of(question)} such chips"],
        figures=_figures(found.speeds) if found.speeds else None,
        curve=_curve(asked, question, case.layout),
    )


def _figures(speeds: Speeds) -> ServeFigures:
    return ServeFigures(
        user=span(speeds.user), chip=span(speeds.chip), rack=span(speeds.rack), ttft=span(speeds.ttft),
        usd=span(speeds.money.output) if speeds.money else None,
    )  # fmt: skip


def _curve(asked: ServeAsked, question: Question, layout: Layout) -> list[ServePoint]:
    """The same figures over users, where the layout holds them."""
    laid = replace(question, wish=Wish(layout.tp, layout.pp, layout.dp))
    found = {users: answer(replace(laid, streams=users)).speeds for users in sorted(set(asked.curve))}
    return [ServePoint(at=users, figures=_figures(speeds)) for users, speeds in found.items() if speeds]


def _refused_case(question: Question) -> Case:
    """What a refused question is shown as: its best layout, or where none fits the one that lacks least memory."""
    posed = pose(question)
    constants = posed.calibration.constants
    if chosen := best(posed.case, posed.layouts, constants, question.limits, question.aim, question.filled):
        return chosen.case
    cases = [replace(posed.case, layout=layout) for layout in posed.layouts]
    return max(cases, key=lambda case: memory_of(case).free * case.layout.chips)


def _memory(case: Case, asked: ServeAsked) -> Memory:
    """Of one chip, with all users that its instance is asked to hold."""
    memory = memory_of(case)
    cache = memory.cache_a_sequence * asked.streams * case.layout.chips / asked.chips
    known = memory.total < inf
    kept = (
        {"kept back by engines": memory.total - memory.free - memory.weights, "left over": memory.free - cache}
        if known
        else {}
    )
    return Memory(parts=parts({"weights": memory.weights, "users' cache": cache, **kept}),
                  total=memory.total if known else None)  # fmt: skip


def _bound(choice: Choice | None) -> list[Part]:
    """Shares of a step; memory and arithmetic overlap in part, so that they are of their sum."""
    if choice is None:
        return []
    step = choice.figures.speed.step
    names = {"memory": "memory bandwidth", "fixed": "fixed time of layers"}
    times = {names.get(name, name): getattr(step, name) for name in step.__slots__}
    return parts({name: time / sum(times.values()) for name, time in times.items()})
