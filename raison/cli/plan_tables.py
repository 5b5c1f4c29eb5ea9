"""How the commands of training plans show figures: three columns, intervals beside their middle.

Not covered: which figures there are (plan_train.py, plan_rl.py).
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from raison.cli.output import console_for, emit_json
from raison.errors import InfeasibleError
from raison.plan.interval import Interval


def lines(rows: Iterable[tuple[str, str, str]]) -> Table:
    """Name, figure, what it means."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    for row in rows:
        table.add_row(*row)
    return table


def figure(value: Interval | None, unit: str, scale: float = 1.0) -> tuple[str, str]:
    """A figure and its 80 % interval."""
    if value is None:
        return "-", "not known"
    span = f"{short(value.low * scale)} to {short(value.high * scale)}"
    return f"{short(value.mid * scale)}", f"({span}) {unit}".rstrip()


def refused(arguments: Namespace, why: InfeasibleError) -> int:
    """Say that it cannot be, in both forms; the exit code of an answer that is no."""
    if arguments.json:
        emit_json({"verdict": "infeasible", "why": str(why)})
    else:
        console_for(arguments).print(Text(f"infeasible: {why}"), soft_wrap=True)
    return why.exit_code


def short(value: float) -> str:
    """Three or four digits, with M and B where there are many."""
    for size, letter in ((1e12, " T"), (1e9, " B"), (1e6, " M")):
        if abs(value) >= size:
            return f"{value / size:,.3g}{letter}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.3g}"


def interval_json(value: Interval | None) -> dict[str, float] | None:
    return None if value is None else {"low": value.low, "mid": value.mid, "high": value.high}


def assumptions(console: Console, said: Iterable[str]) -> None:
    """What was assumed, one line each."""
    console.print("[dim]80 % intervals. Assumed:[/dim]")
    for clause in dict.fromkeys(said):
        console.print(f"[dim]  {clause}[/dim]")
