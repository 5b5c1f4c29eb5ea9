"""`raison plan compare`: chips or models side by side, and their frontiers as a plot.

Not covered: the arithmetic (raison.plan.compare), drawing as such (bench/plots.py).
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from raison.cli.given import words
from raison.cli.output import console_for, emit_json
from raison.cli.plan_asked import question_of
from raison.errors import UserError
from raison.files import write_atomic
from raison.plan.answer_json import interval_dict
from raison.plan.compare import Frontier, frontier

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#2f7fd0", "#d9822b", "#7a5bb5", "#3b9c6a", "#b8446c", "#8a7a2f")
LINES = ("-", "--", ":", "-.")
LABEL = "tokens per second of a user against tokens per second of a chip"


def command(arguments: Namespace) -> int:
    console = console_for(arguments)
    asked = [question_of(arguments, model, chip) for model in words(arguments.model) for chip in words(arguments.chip)]
    if not asked:
        raise UserError("give at least one model and one chip, such as r1-671b --chip H200,B200")
    found = [frontier(question) for question in asked]
    console.print(_table(found))
    for line in found:
        for clause in line.assumptions:
            console.print(Text(f"· {line.name}: {clause}", style="dim"), soft_wrap=True)
    if arguments.plot:
        _draw(found, arguments.plot)
        console.print(Text(f"· {arguments.plot}"), soft_wrap=True)
    if arguments.json:
        emit_json({"frontiers": [_as_dict(line) for line in found]})
    return 0 if any(line.points for line in found) else 1


def _table(found: Sequence[Frontier]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    for name in (
        "",
        "fastest user",
        "layout",
        "most a chip",
        "layout",
        "user then",
        "streams",
        "$/M answers",
        "bound by",
    ):
        table.add_column(name, justify="left" if name in ("", "layout", "bound by") else "right")
    for line in found:
        table.add_row(*_row(line))
    return table


def _row(line: Frontier) -> list[str]:
    if not line.points:
        return [line.name, "does not fit, or meets no limit"]
    fast, cheap = line.points[0], line.points[-1]
    price = line.question.usd_per_hour or line.question.chip.usd_per_hour
    money = f"{price / 3.6e-3 / cheap.a_chip:,.3f}" if price else "-"
    return [
        line.name, f"{fast.a_user:,.1f}", fast.case.layout.words, f"{cheap.a_chip:,.0f}", cheap.case.layout.words,
        f"{cheap.a_user:,.1f}", f"{cheap.case.load.streams:,.0f}", money, cheap.figures.speed.step.bound,
    ]  # fmt: skip


def _as_dict(line: Frontier) -> dict[str, Any]:
    return {
        "model": line.question.shape.name, "chip": line.question.chip.name, "calibration": line.calibration.name,
        "assumptions": list(line.assumptions),
        "points": [
            {"layout": point.case.layout.words, "streams": point.case.load.streams,
             "tokens_per_second_user": interval_dict(line.interval(point.a_user, "tpot")),
             "tokens_per_second_chip": interval_dict(line.interval(point.a_chip, "rate")),
             "ttft_ms": interval_dict(line.interval(point.figures.speed.ttft * 1e3, "ttft"))}
            for point in line.points
        ],
    }  # fmt: skip


def _draw(found: Sequence[Frontier], path: Path) -> None:
    """An SVG file that stands by itself. UserError where matplotlib is missing."""
    from raison.bench.plots import standing, svg  # a plot alone waits for matplotlib

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for place, line in enumerate(line for line in found if line.points):
            _curve(axes, line, COLOURS[place % len(COLOURS)], LINES[place // len(COLOURS) % len(LINES)])
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("tokens/s of a user")
        axes.set_ylabel("tokens/s of a chip")
        axes.legend(fontsize=8)

    write_atomic(path, standing(svg(draw, 7.0, 4.6, LABEL)).encode())


def _curve(axes: Axes, line: Frontier, colour: str, style: str) -> None:
    """The frontier with the stated interval of the chip's rate around it."""
    users = [point.a_user for point in line.points]
    rates = [line.interval(point.a_chip, "rate") for point in line.points]
    axes.plot(users, [rate.mid for rate in rates], color=colour, linestyle=style, label=line.name)
    axes.fill_between(users, [r.low for r in rates], [r.high for r in rates], color=colour, alpha=0.12, linewidth=0)
