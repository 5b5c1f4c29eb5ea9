"""`raison plan story`: R1's own figures, claim against prediction against publication, with the verdicts.

Not covered: the figures (raison.plan.story).
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from rich.table import Table

from raison.cli.output import console_for, emit_json
from raison.cli.plan_tables import interval_json, short
from raison.plan.story import Line, story

MARKS = {True: "✓", False: "✗", None: "·"}


def command(arguments: Namespace) -> int:
    lines = story()
    if arguments.json:
        emit_json({"lines": [_json(line) for line in lines]})
        return 0
    table = Table(box=None, pad_edge=False, padding=(0, 1), expand=False)
    for name in ("", "R1's story", "claim", "predicted", "published", "verdict"):
        table.add_column(name, justify="right" if name in ("claim", "published") else "left")
    for line in lines:
        table.add_row(MARKS[line.holds], line.about, f"{short(line.claim)} {line.unit}".strip(), _predicted(line),
                      "" if line.published is None else short(line.published), line.verdict)  # fmt: skip
    console = console_for(arguments)
    console.print(table)
    console.print("[dim]Intervals hold the truth in 80 % of cases. --json has sources and notes.[/dim]")
    return 0


def _predicted(line: Line) -> str:
    value = line.predicted
    if value is None:
        return "-"
    middle = f"{value.mid:,.0f}" if value.low == value.high and value.mid >= 1000 else short(value.mid)
    return middle if value.low == value.high else f"{middle} ({short(value.low)} to {short(value.high)})"


def _json(line: Line) -> dict[str, Any]:
    return {
        "about": line.about, "claim": line.claim, "unit": line.unit, "predicted": interval_json(line.predicted),
        "published": line.published, "source": line.source, "verdict": line.verdict, "holds": line.holds,
        "note": line.note,
    }  # fmt: skip
