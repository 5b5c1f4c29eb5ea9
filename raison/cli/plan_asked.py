"""From the arguments of `raison plan serve` and `compare` to a question. Not covered: its answer (raison.plan)."""

from __future__ import annotations

from argparse import Namespace
from math import inf

from raison.errors import UserError
from raison.hardware import probe
from raison.plan.chips import THIS, count_in, find_chip
from raison.plan.models import find_model
from raison.plan.precision import WIDTHS, Width, width_in
from raison.plan.question import Question, Wish
from raison.plan.search import Limits


def question_of(arguments: Namespace, model: str, chip: str) -> Question:
    """The question about one model on one chip. UserError for what cannot be."""
    if arguments.refresh and chip.lower() in THIS:
        probe(refresh=True)
    chips = arguments.chips if arguments.chips is not None else count_in(chip)
    wish = Wish(*(getattr(arguments, name, None) for name in ("tp", "pp", "dp", "ep")))
    limits = Limits(*(_seconds(getattr(arguments, name), name) for name in ("max_tpot", "max_ttft")))
    return Question(
        shape=find_model(model), chip=find_chip(chip), isl=arguments.input, osl=arguments.output,
        streams=arguments.streams, rate=arguments.rate, chips=chips, width=_width(arguments.precision),
        engine=arguments.engine.lower(),
        guesses=arguments.guess, known=arguments.cached, limits=limits, wish=wish,
        disaggregated=getattr(arguments, "disaggregated", False), aim=getattr(arguments, "aim", "price"),
        usd_per_hour=arguments.usd_per_hour,
    )  # fmt: skip


def _width(name: str | None) -> Width | None:
    if name is None:
        return None
    width = width_in(name)
    if width is None:
        raise UserError(f'there is no precision "{name}"; there is: {", ".join(WIDTHS)}')
    return width


def _seconds(milliseconds: float | None, name: str) -> float:
    if milliseconds is None:
        return inf
    if not milliseconds > 0:
        raise UserError(f"--{name.replace('_', '-')} is {milliseconds}; it is in milliseconds, above 0")
    return milliseconds / 1e3
