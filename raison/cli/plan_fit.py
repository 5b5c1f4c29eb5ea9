"""`raison plan fit`: the constants of chips and engines from files of published points.

Not covered: the fit (raison.plan.fit), where published files come from.
"""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from raison.cli.given import words
from raison.cli.output import console_for, emit_json
from raison.cli.plan_validate import show_report
from raison.errors import UserError
from raison.files import write_atomic
from raison.plan.calibration import Calibration
from raison.plan.cross import cross
from raison.plan.fit import LeftOut, Tree, grow, leave_each_out, with_elsewhere
from raison.plan.points import points_of
from raison.plan.rows import Row, read_rows
from raison.plan.silicon import is_silicon, read_silicon
from raison.plan.training_rows import refit
from raison.plan.utilization import as_json as law_json
from raison.plan.validate import as_json, by_source


def command(arguments: Namespace) -> int:
    console = console_for(arguments)
    left_out = words(arguments.leave_out)
    rows = [row for path in arguments.files for row in _rows(path) if not _matches(row, left_out)]
    if arguments.training:
        write_atomic(arguments.training, (json.dumps(law_json(refit(rows)), indent=1) + "\n").encode())
    whole, left = _fitted(rows, console)
    tree = with_elsewhere(whole, left)
    result: dict[str, Any] = {"calibrations": [entry.to_dict() for entry in tree.values()]}
    if arguments.out:
        write_atomic(arguments.out, (json.dumps(result, indent=1) + "\n").encode())
    console.print(_table(list(tree.values())))
    if arguments.cross:
        report = cross(rows, whole, left)
        result["cross"] = {**as_json(report), "sources": by_source(report)}
        show_report(console, report, of_sources=True)
    if arguments.json:
        emit_json(result)
    return 0


def _fitted(rows: list[Row], console: Console) -> tuple[Tree, list[LeftOut]]:
    """The constants, and those without each source."""

    def note(text: str) -> None:
        console.print(Text(f"· {text}", style="dim"), soft_wrap=True)

    points = points_of(rows)
    if not points:
        raise UserError("no row of these files can be fitted to: see docs/plan.md for what a row needs")
    note(f"{len(points)} points of {len(rows)} rows")
    whole = grow(points, {}, "", note)
    return whole, leave_each_out(points, whole, note)


def _rows(path: Path) -> list[Row]:
    return read_silicon(path) if is_silicon(path) else read_rows(path)


def _matches(row: Row, prefixes: list[str]) -> bool:
    return any(row.id.startswith(prefix) or row.origin.startswith(prefix) for prefix in prefixes)


def _table(entries: list[Calibration]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    for name in ("calibration", "points", "TPOT", "TTFT", "rates", "elsewhere", "memory", "layer, µs"):
        table.add_column(name, justify="left" if name == "calibration" else "right")
    for entry in entries:
        errors = [
            f"{entry.errors[metric]:.0%}" if metric in entry.errors else "-" for metric in ("tpot", "ttft", "rate")
        ]
        away = " ".join(f"{factor:.2f}" for factor in entry.elsewhere.values())
        table.add_row(entry.name, f"{entry.points:,}", *errors, away, f"{entry.constants.memory:.0%}",
                      f"{entry.constants.layer_us:.0f}")  # fmt: skip
    return table
