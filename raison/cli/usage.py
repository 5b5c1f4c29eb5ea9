"""`raison usage`: requests, tokens and cost by key, model, endpoint and day; as a table, JSON or CSV.

Not covered: single requests (table `usage` of the database); what a key has left (`raison keys list`).
"""

from __future__ import annotations

import csv
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from raison.cli.given import known_words
from raison.cli.output import console_for, emit_json
from raison.serve.prices import NANO_PER_DOLLAR
from raison.serve.store import home, open_store
from raison.serve.usage import GROUPS, Line, report, since_of

FIGURES = tuple(field.name for field in fields(Line) if field.name not in ("group", "cost", "unpriced"))


def command(arguments: Namespace) -> int:
    by = known_words(arguments.by, GROUPS, "column")
    since = since_of(arguments.since, datetime.now(UTC).date()) if arguments.since else None
    store = open_store(home(), arguments.database)
    try:
        with store.read() as connection:
            lines = report(connection, by, since)
    finally:
        store.close()
    if arguments.json:
        rows = [as_json(by, line) for line in lines]
        emit_json({"by": by, "since": since and since.isoformat(), "rows": rows, "total": as_json([], total(lines))})
    elif arguments.csv:
        csv.writer(sys.stdout).writerows(_csv(by, lines))
    else:
        console_for(arguments).print(_table(by, lines))
    return 0


def total(lines: Sequence[Line]) -> Line:
    """The sum of all lines."""
    costs = [line.cost for line in lines if line.cost is not None]
    figures = {name: sum(getattr(line, name) for line in lines) for name in (*FIGURES, "unpriced")}
    return Line(group=(), cost=sum(costs) if costs else None, **figures)


def as_json(by: Sequence[str], line: Line) -> dict[str, Any]:
    """Cost in dollars, and exactly in nano-dollars; None without a price."""
    figures = {name: getattr(line, name) for name in (*FIGURES, "unpriced")}
    dollars = None if line.cost is None else line.cost / NANO_PER_DOLLAR
    return {**dict(zip(by, line.group, strict=True)), **figures, "cost": dollars, "cost_nanodollars": line.cost}


def _csv(by: Sequence[str], lines: Sequence[Line]) -> Iterator[list[Any]]:
    yield [*by, *FIGURES, "unpriced", "cost"]
    for line in lines:
        yield [*line.group, *(getattr(line, name) for name in FIGURES), line.unpriced, _dollars(line.cost)]


def _table(by: Sequence[str], lines: Sequence[Line]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for name in by:
        table.add_column(name)
    for name in (*FIGURES, "cost, $"):
        table.add_column(name.removesuffix("_tokens"), justify="right")
    for line in lines:
        table.add_row(*_cells(line.group, line))
    if lines:
        table.add_row(*_cells(("total", *[""] * (len(by) - 1)), total(lines)), style="bold")
    return table


def _cells(group: Sequence[str], line: Line) -> list[Text]:
    cost = _dollars(line.cost) or "no price"
    if line.cost is not None and line.unpriced:
        cost += f" + {line.unpriced:,} requests without a price"
    return [Text(cell) for cell in (*group, *(f"{getattr(line, name):,}" for name in FIGURES), cost)]


def _dollars(nano: int | None) -> str:
    """All nine digits after the point: no rounding."""
    return "" if nano is None else f"{nano // NANO_PER_DOLLAR}.{nano % NANO_PER_DOLLAR:09}"
