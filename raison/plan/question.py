"""What `raison plan serve` is asked, and everything that has to be chosen before it can be answered.

Not covered: the answer (answer.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf

from raison.errors import UserError
from raison.plan.batching import Load
from raison.plan.calibration import Calibration, calibrations, choose
from raison.plan.chips import Chip
from raison.plan.layouts import candidates
from raison.plan.precision import WIDTHS, Width, usual_width
from raison.plan.search import Aim, Limits
from raison.plan.serving import Case, memory_of
from raison.plan.setup import Layout
from raison.plan.shape import Shape

NARROWER: dict[str, str] = {"bf16": "fp8", "fp8": "int4", "int8": "int4"}
"""What is tried where a model does not fit in its usual width and none was asked for."""
OPTIONS: Mapping[str, str] = {
    "isl": "--input", "osl": "--output", "streams": "--streams", "rate": "--rate", "chips": "--chips",
    "guesses": "--guess", "usd_per_hour": "--usd-per-hour",
}  # fmt: skip
"""Numbers that are above 0, and how they are given."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The parts of a layout that were asked for; None = whatever is best."""

    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    ep: int | None = None

    def allows(self, layout: Layout) -> bool:
        wanted = ((self.tp, layout.tp), (self.pp, layout.pp), (self.dp, layout.dp))
        shared = self.ep is None or (layout.stage == self.ep and layout.ep) or (self.ep == 1 and layout.stage == 1)
        return shared and all(wish is None or wish == has for wish, has in wanted)


NO_LIMITS, NO_WISH = Limits(), Wish()


@dataclass(frozen=True, slots=True)
class Question:
    """A workload on a chip. Lengths in tokens, limits in seconds; None = to be chosen."""

    shape: Shape
    chip: Chip
    isl: float = 1024.0
    osl: float = 1024.0
    streams: float | None = None
    rate: float | None = None
    """Requests a second that arrive."""
    chips: int | None = None
    width: Width | None = None
    engine: str = ""
    guesses: float = 1.0
    """Tokens that a sequence gets in a step."""
    known: float = 0.0
    """Share of a prompt that the cache knows."""
    limits: Limits = NO_LIMITS
    wish: Wish = NO_WISH
    disaggregated: bool = False
    aim: Aim = "price"
    usd_per_hour: float | None = None

    @property
    def filled(self) -> int | None:
        """The chips that share the streams, where both are given."""
        return self.chips if self.streams and not self.disaggregated else None


@dataclass(frozen=True, slots=True)
class Posed:
    """A question made ready: a case without a layout yet, the layouts to try, constants, what was assumed."""

    case: Case
    layouts: tuple[Layout, ...]
    calibration: Calibration
    assumptions: tuple[str, ...]


def pose(question: Question) -> Posed:
    """Choose engine, width and layouts. UserError where a number makes no sense."""
    _check(question)
    width, said = _width(question)
    load = Load(question.isl, question.osl, question.streams or 0.0, question.guesses, question.known)
    case = Case(question.shape, question.chip, width, Layout(), load, question.engine, "", question.disaggregated)
    engine, more = _engine(case)
    case = replace(case, engine=engine)
    return Posed(case, layouts_of(question), choose(case), (*_beyond(question), *question.shape.assumed, *said, *more))


def layouts_of(question: Question) -> tuple[Layout, ...]:
    """Every layout that the question allows. A machine of one chip has one."""
    chip = question.chip
    if chip.kind in ("this", "cpu", "apple"):
        return (Layout(),)
    if chip.kind in ("sram", "rdu") and question.chips is None:
        found: Iterable[Layout] = (
            Layout(tp=chip.domain * times, ep=question.shape.routed > 0) for times in (1, 2, 4, 8, 16)
        )
    else:
        found = candidates(question.shape, question.chips, chip.domain)
    layouts = tuple(layout for layout in found if question.wish.allows(layout))
    if not layouts:
        raise UserError("no layout has the --tp, --pp, --dp and --ep that were asked for; they are powers of two, or "
                        "divide --chips; ep is tp x dp of a model with experts")  # fmt: skip
    return layouts


def _check(question: Question) -> None:
    for name in OPTIONS:
        value = getattr(question, name)
        if value is not None and not 0 < value < inf:
            raise UserError(f"{OPTIONS[name]} is {value}; it must be above 0")
    if not 0 <= question.known <= 1:
        raise UserError(f"--cached is {question.known}; it is a share of the prompt, from 0 to 1")
    if question.streams and question.rate:
        raise UserError("--streams is a closed loop and --rate an open one; give one of them")


def _beyond(question: Question) -> tuple[str, ...]:
    """A warning where a request is longer than the model's positions reach: memory and time are what they are, but
    engines refuse it by default."""
    shape, asked = question.shape, question.isl + question.osl
    if asked <= shape.context:
        return ()
    return (f"beyond the model's context: {question.isl:,.0f} + {question.osl:,.0f} tokens, and positions of "
            f"{shape.name} reach {shape.context:,.0f}; engines refuse such requests unless they are told to extend "
            "them, and answers suffer",)  # fmt: skip


def _width(question: Question) -> tuple[Width, tuple[str, ...]]:
    if question.width is not None:
        return question.width, ()
    width = usual_width(question.shape, question.chip)
    said = f"weights in {width.name}, as is usual"
    while not _fits(question, width) and width.name in NARROWER:
        width = WIDTHS[NARROWER[width.name]]
        said = f"weights in {width.name}: wider ones do not fit on {question.chips or 'any number of'} chips"
    return width, (said,)


def _fits(question: Question, width: Width) -> bool:
    load = Load(question.isl, question.osl, 1.0)
    cases = (Case(question.shape, question.chip, width, layout, load) for layout in layouts_of(question))
    return any(memory_of(case).room >= 1 for case in cases)


def _engine(case: Case) -> tuple[str, tuple[str, ...]]:
    """The engine asked for; else the one with most points on that chip for such models."""
    if case.engine:
        measured = any(len(key) == 3 and key[1] == case.engine for key in calibrations())
        return case.engine, () if measured else (f"no figures tell of {case.engine}: constants of engines like it",)
    if case.chip.kind == "this":
        return "raison", ()
    known = [
        c for c in calibrations().values() if len(c.key) == 3 and c.key[0] == case.chip.name and c.key[2] == case.family
    ]
    if not known:
        return "", (f"no engine's figures on {case.chip.name} for such models: constants of its class",)
    engine = max(known, key=lambda c: c.points).key[1]
    return engine, (f"served by {engine}",) if engine else ()
