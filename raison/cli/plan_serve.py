"""`raison plan serve`: what serving a model on a chip would be like, as intervals with everything assumed by name.

Exit code 1 where the answer is that it cannot be served. Not covered: the arithmetic (raison.plan).
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from raison.cli.output import console_for, emit_json
from raison.cli.plan_asked import question_of
from raison.plan.answer import Answer, Speeds, answer
from raison.plan.answer_json import as_dict, memory_dict
from raison.plan.interval import Interval
from raison.plan.search import Choice


def command(arguments: Namespace) -> int:
    found = answer(question_of(arguments, arguments.model, arguments.chip))
    if arguments.json:
        emit_json(as_dict(found))
    else:
        show(console_for(arguments), found)
    return 0 if found.verdict == "served" else 1


def show(console: Console, found: Answer) -> None:
    """The answer for people."""
    case = found.case
    title = Text(f"{case.shape.name} on {case.chip.name}", style="bold")
    console.print(title, Text(f"{case.width.name}, {case.load.isl:g} tokens in, {case.load.osl:g} out"))
    if found.choice is None or found.speeds is None:
        console.print(Text(f"{found.verdict}: {found.why}"), soft_wrap=True)
    else:
        console.print(_table(found, found.choice, found.speeds))
    for clause in found.assumptions:
        console.print(Text(f"· {clause}", style="dim"), soft_wrap=True)


def _table(found: Answer, choice: Choice, speeds: Speeds) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    for row in (*_layout_rows(found, choice), *_speed_rows(found, speeds), *_part_rows(choice)):
        table.add_row(*row)
    return table


def _layout_rows(found: Answer, choice: Choice) -> Iterator[tuple[str, str, str]]:
    chips = choice.figures.chips * found.instances
    many = "chip" if chips == 1 else "chips"
    yield "layout", choice.case.layout.words, f"{chips:.3g} {many}; the best of {found.searched} layouts"
    yield "streams", f"{choice.case.load.streams * found.instances:,.0f}", "requests at once"


def _speed_rows(found: Answer, speeds: Speeds) -> Iterator[tuple[str, str, str]]:
    yield "tokens/s a user", f"{speeds.user.mid:,.1f}", _range(speeds.user)
    yield "tokens/s a chip", f"{speeds.chip.mid:,.0f}", _range(speeds.chip)
    if speeds.rack_chips > 1:
        yield "tokens/s a rack", f"{speeds.rack.mid:,.0f}", f"{_range(speeds.rack)}, {speeds.rack_chips} chips"
    yield "tokens/s in all", f"{speeds.all.mid:,.0f}", _range(speeds.all)
    yield "time to first token", f"{speeds.ttft.mid * 1e3:,.0f} ms", f"{_range(speeds.ttft * 1e3)} ms"
    yield "time of a request", f"{speeds.request.mid:,.1f} s", f"{_range(speeds.request)} s"
    if speeds.money is None:
        yield "$ per million tokens", "-", "no price of the chip is known; --usd-per-hour gives one"
        return
    yield "$/M tokens, answers", f"{speeds.money.output.mid:,.3f}", _range(speeds.money.output)
    yield (
        "$/M tokens, all",
        f"{speeds.money.total.mid:,.3f}",
        f"{_range(speeds.money.total)}, {speeds.money.usd_per_hour:g} $ an hour",
    )


def _part_rows(choice: Choice) -> Iterator[tuple[str, str, str]]:
    step = choice.figures.speed.step
    yield "bound by", step.bound, "largest part of a step"
    parts = ("memory", "arithmetic", "fixed", "communication")
    yield "a step", f"{step.total * 1e3:.2f} ms", ", ".join(f"{name} {getattr(step, name) * 1e3:.2f}" for name in parts)
    memory = memory_dict(choice)
    left = "" if memory["left"] is None else f", left {memory['left']:,.1f} of {memory['total']:,.0f}"
    yield "memory a chip, GB", f"{(memory['weights'] or 0) + (memory['cache'] or 0):,.1f}", (
        f"weights {memory['weights']:,.1f}, cache {memory['cache']:,.2f}{left}")  # fmt: skip


def _range(value: Interval) -> str:
    """The stated 80 % interval."""
    digits = 0 if value.low >= 100 else 1 if value.low >= 3 else 3
    return f"{value.low:,.{digits}f} to {value.high:,.{digits}f}"
