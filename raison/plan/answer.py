"""The answer to a serving question: figures as intervals, what bounds them, and every assumption by name.

A model that fits nowhere, limits that nothing meets and a queue that would not end are answers too: `verdict` says
which, and no speed is given. Not covered: how it is shown (cli/plan_serve.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf

from raison.plan.batching import RHO
from raison.plan.calibration import Calibration
from raison.plan.interval import Interval
from raison.plan.question import Posed, Question, pose
from raison.plan.search import Choice, Limits, best
from raison.plan.serving import SHARE, Case, figures, memory_of, with_streams
from raison.plan.setup import Constants

EASY = 0.8
"""Load that chips are bought for, where their number is free."""
RACK_OF_NODES = 4
"""Nodes of eight chips that a rack holds."""


@dataclass(frozen=True, slots=True)
class Money:
    """USD for a million tokens: of answers alone, and of prompts and answers together."""

    output: Interval
    total: Interval
    usd_per_hour: float


@dataclass(frozen=True, slots=True)
class Speeds:
    """Figures of the chosen layout. Rates are answer tokens a second."""

    user: Interval
    chip: Interval
    rack: Interval
    rack_chips: int
    all: Interval
    ttft: Interval
    request: Interval
    """Seconds from a request to its last token."""
    money: Money | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found. `choice` and `speeds` are None where the verdict is not "served"."""

    question: Question
    case: Case
    verdict: str
    """served, infeasible or saturated."""
    why: str
    searched: int
    """Layouts tried."""
    choice: Choice | None
    speeds: Speeds | None
    calibration: Calibration
    assumptions: tuple[str, ...]
    instances: int = 1


def answer(question: Question) -> Answer:
    """Answer a question. UserError where it makes no sense."""
    posed = pose(question)
    constants = posed.calibration.constants
    chosen = best(posed.case, posed.layouts, constants, question.limits, question.aim, question.filled)
    if chosen is None:
        return _refused(question, posed, "infeasible", _why_not(question, posed))
    if question.rate:
        return _open_loop(question, posed, chosen, question.rate)
    instances = (question.filled or chosen.case.layout.chips) // chosen.case.layout.chips
    if chosen.figures.speed.waiting:
        return _refused(question, posed, "saturated", _too_many(chosen, instances))
    return _served(question, posed, chosen, instances)


def _open_loop(question: Question, posed: Posed, chosen: Choice, rate: float) -> Answer:
    """Instances for a rate of arrivals, each with as many streams as keep up with its share."""
    most = chosen.figures.output / question.osl
    places = int(question.chips / chosen.figures.chips) if question.chips else 0
    instances = max(1, places or ceil(rate / (EASY * most)))
    load = Interval.within(rate / (instances * most), posed.calibration.spread("rate", "", posed.case.engine))
    if load.mid > RHO:
        held = f"{instances * most:.3g} requests/s is all that {instances * chosen.figures.chips:.0f} chips do"
        why = f"{rate:g} requests/s are {load.mid:.0%} of that: {held}, and above {RHO:.0%} waiting times follow from"
        return _refused(question, posed, "saturated", f"{why} errors of the prediction")
    streams = _streams_for(chosen.case, posed.calibration.constants, rate / instances)
    case = with_streams(chosen.case, streams)
    there = f"{streams:.1f} requests" if streams > 1 else "one request at most"
    how = f"{load.mid:.0%} loaded ({load.low:.0%} to {load.high:.0%}) with {there} in flight"
    said = f"{rate:g} requests/s on {instances} instances, each {how}"
    posed = replace(posed, assumptions=(*posed.assumptions, said))
    return _served(question, posed, Choice(case, figures(case, posed.calibration.constants)), instances)


def _streams_for(case: Case, constants: Constants, rate: float) -> float:
    """Requests in flight at which an instance answers `rate` a second (Little's law), between 1 and the case's."""
    low, high = 1.0, max(1.0, case.load.streams)
    for _ in range(20):
        middle = (low + high) / 2
        enough = figures(with_streams(case, middle), constants).output / case.load.osl >= rate
        low, high = (low, middle) if enough else (middle, high)
    return high


def _served(question: Question, posed: Posed, chosen: Choice, instances: int) -> Answer:
    speeds = _speeds(question, posed.calibration, chosen, instances)
    return Answer(question, chosen.case, "served", "", len(posed.layouts), chosen, speeds, posed.calibration,
                  _assumptions(question, posed), instances)  # fmt: skip


def _refused(question: Question, posed: Posed, verdict: str, why: str) -> Answer:
    return Answer(question, posed.case, verdict, why, len(posed.layouts), None, None, posed.calibration,
                  _assumptions(question, posed))  # fmt: skip


def _speeds(question: Question, calibration: Calibration, chosen: Choice, instances: int) -> Speeds:
    """Intervals of a source that the constants were not fitted to, as a plan is one."""
    found, osl = chosen.figures, chosen.case.load.osl
    rates = "frontier" if question.limits.tpot < inf and not question.streams else "rate"
    factor = {metric: calibration.spread(metric, "", chosen.case.engine) for metric in ("tpot", "ttft", rates)}
    output = question.rate * osl / instances if question.rate else found.output
    rate = Interval.within(output, factor[rates])
    chip, rack = rate / found.chips, rack_of(question)
    if question.rate:
        rate = Interval.exact(output)  # what arrives is what is answered, by more chips or fewer
        chip = rate / found.chips if question.chips else chip
    tpot = Interval.within(found.speed.tpot, factor["tpot"])
    ttft = Interval.within(found.speed.ttft, factor["ttft"])
    return Speeds(1.0 / tpot, chip, chip * rack, rack, rate * instances, ttft, ttft + tpot * max(osl - 1, 1e-9),
                  _money(question, chip, question.isl / question.osl))  # fmt: skip


def rack_of(question: Question) -> int:
    """Chips of a rack: the scale-up domain where it is one, four nodes of eight, or the one machine."""
    chip = question.chip
    if chip.kind in ("this", "cpu", "apple", "consumer"):
        return 1
    return chip.domain if chip.domain > 8 else RACK_OF_NODES * 8


def _money(question: Question, chip: Interval, inputs: float) -> Money | None:
    price = question.usd_per_hour or question.chip.usd_per_hour
    if price is None:
        return None
    output = price / 3.6e-3 / chip
    return Money(output, output * (1 / (1 + inputs)), price)


def _assumptions(question: Question, posed: Posed) -> tuple[str, ...]:
    c = posed.calibration
    fitted = f"constants of {c.name}: {c.points} points of {', '.join(c.sources)}, {c.dates[0]} to {c.dates[1]}"
    price = question.chip.price_note
    apart = "chips for prompts apart, as many as keep up with those that decode"
    return (
        *posed.assumptions, fitted, *((apart,) if question.disaggregated else ()),
        *((f"price: {price}",) if price and not question.usd_per_hour else ()),
        f"prompts are {question.known:.0%} known to the cache" if question.known else "no prompt shares a prefix",
        f"{question.guesses:g} tokens a step by guessing ahead" if question.guesses != 1 else "no guessing ahead",
        f"weights and cache take {SHARE:.0%} of memory",
    )  # fmt: skip


def _why_not(question: Question, posed: Posed) -> str:
    fitting = [replace(posed.case, layout=layout) for layout in posed.layouts]
    fitting = [case for case in fitting if memory_of(case).room >= 1]
    if not fitting:
        return _too_large(question, posed)
    free = replace(posed.case, load=replace(posed.case.load, streams=1.0))
    fastest = best(free, posed.layouts, posed.calibration.constants, Limits(), "speed")
    assert fastest is not None, "a layout fits"
    speed = fastest.figures.speed
    return (f"no layout of {len(posed.layouts)} meets the limits: {fastest.case.layout.words}, the fastest for one "
            f"stream, takes {speed.tpot * 1e3:.1f} ms a token and {speed.ttft * 1e3:.0f} ms to the first")  # fmt: skip


def _too_large(question: Question, posed: Posed) -> str:
    largest = max(posed.layouts, key=lambda layout: layout.chips)
    weights = posed.case.width.bytes_of(question.shape)
    has = memory_of(replace(posed.case, layout=largest)).total * SHARE * largest.chips
    needs = f"{weights / 1e9:,.0f} GB of weights in {posed.case.width.name} and a sequence's cache"
    there = f"{has / 1e9:,.0f} GB on {largest.chips} of {question.chip.name}"
    return f"{question.shape.name} does not fit: {needs} against {there}"


def _too_many(chosen: Choice, instances: int) -> str:
    load, room = chosen.case.load, chosen.figures.memory.room
    words = f"{instances} instances of {chosen.case.layout.words}" if instances > 1 else chosen.case.layout.words
    return (f"{load.streams * instances:g} streams do not fit: the cache has room for {room * instances:.0f} sequences "
            f"of {load.isl:g} and {load.osl:g} tokens in {words}; the others would wait for theirs to end")  # fmt: skip
