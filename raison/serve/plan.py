"""The planner as an API: what serving or training a model would need and cost, each figure with its interval.

    GET  /v1/raison/plan/choices    chips and models that are known, with their sources and the dates of prices
    POST /v1/raison/plan/serve      tokens/s of a user, a chip and a rack, time to first token, USD for a million tokens
    POST /v1/raison/plan/train      days, chip-hours, USD, kWh

A model is a name or two numbers here, never a path. One question is computed at a time, in a thread of its own, and
none whose asker has gone: a slider that moves asks often, and the engine needs the processor too. Not covered: what is
said (plan_view.py), how it is found (plan_serving.py, plan_training.py).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar, get_args

from fastapi import APIRouter, Request

from raison import hardware
from raison.plan.chips import Chip, chip_in, chip_of, chips
from raison.plan.models import known_model, published, typical
from raison.plan.shape import Shape
from raison.serve import plan_serving, plan_training
from raison.serve.mistake import Mistake
from raison.serve.plan_view import (
    ChipChoice,
    Choices,
    ModelChoice,
    Precision,
    ServeAsked,
    ServePlan,
    TrainAsked,
    TrainPlan,
)
from raison.serve.refused import REFUSALS

THIS = "this machine"
NUMBERS = re.compile(r"(\d{1,15}(?:\.\d{1,6})?(?:e\d{1,2})?)(?:/(\d{1,15}(?:\.\d{1,6})?(?:e\d{1,2})?))?", re.ASCII)
SMALLEST, LARGEST = 1e5, 1e14
"""Parameters of a model that only numbers are known of."""
LOST = 499
"""Status for the log, where nobody listens any more."""
Found = TypeVar("Found")

router = APIRouter(prefix="/v1/raison/plan", tags=["planner"], responses=REFUSALS)


@router.get("/choices", summary="Chips and models that the planner knows, with their sources")
def choices() -> Choices:
    known = [*filter(None, [_this_machine()]), *chips()]
    return Choices(
        chips=[_chip_choice(chip) for chip in known],
        models=[_model_choice(name, source) for name, source in published().items()],
        precisions=list(get_args(Precision)),
    )


@router.post("/serve", summary="What serving a model on some chips comes to")
async def serve(asked: ServeAsked, request: Request) -> ServePlan:
    shape, chip = shape_of(asked.model), chip_named(asked.chip)
    return await _in_turn(request, lambda: plan_serving.serve(asked, shape, chip))


@router.post("/train", summary="What training a model on some chips comes to")
async def train(asked: TrainAsked, request: Request) -> TrainPlan:
    shape, chip = shape_of(asked.model), chip_named(asked.chip)
    return await _in_turn(request, lambda: plan_training.train(asked, shape, chip))


async def _in_turn(request: Request, find: Callable[[], Found]) -> Found:
    """What `find` gives, one question after another; Mistake 499 where the asker went while it waited."""
    if not hasattr(request.app.state, "planning"):
        request.app.state.planning = asyncio.Semaphore(1)
    async with request.app.state.planning:
        if await request.is_disconnected():
            raise Mistake("nobody waits for the answer", status=LOST)
        return await asyncio.to_thread(find)


def shape_of(name: str) -> Shape:
    """The model of that name, or a typical one of TOTAL/ACTIVE parameters. Mistake that names `model`."""
    if found := known_model(name):
        return found
    if (numbers := NUMBERS.fullmatch(name)) is None:
        raise Mistake(f'there is no model "{name}": /v1/raison/plan/choices has those that there are; or give its '
                      "parameters as TOTAL/ACTIVE, such as 671e9/37e9", "model")  # fmt: skip
    total = float(numbers[1])
    active = float(numbers[2]) if numbers[2] else total
    if not SMALLEST <= active <= total <= LARGEST:
        raise Mistake(f"{name} parameters: TOTAL/ACTIVE must lie between {SMALLEST:g} and {LARGEST:g}, and ACTIVE must "
                      "not be the larger", "model")  # fmt: skip
    return typical(f"a model of {name} parameters", total, active)


def chip_named(name: str) -> Chip:
    """The chip of that name. Mistake that names `chip`; this machine counts where it has been measured before."""
    if name == THIS and (machine := _this_machine()):
        return machine
    if found := chip_in(name):
        return found
    raise Mistake(f'there is no chip "{name}": /v1/raison/plan/choices has those that there are', "chip")


def _this_machine() -> Chip | None:
    """This machine, never measured here: answers under way would spoil the measurement, and it them."""
    machine = hardware.probed()
    return None if machine is None else replace(chip_of(machine), name=THIS)


def _chip_choice(chip: Chip) -> ChipChoice:
    return ChipChoice(
        name=chip.name, kind=chip.kind, memory_gb=chip.mem_gb, bandwidth_gbps=chip.mem_gbps,
        usd_per_hour=chip.usd_per_hour, price_note=chip.price_note, source=chip.source,
    )  # fmt: skip


def _model_choice(name: str, source: str) -> ModelChoice:
    shape = shape_of(name)
    return ModelChoice(name=name, total=shape.total, active=shape.active, source=source)
