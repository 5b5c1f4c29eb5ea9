"""Every request as a row of a CSV file: what was measured of it, what the server says of it, how it ended.

Not covered: texts of prompts and answers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from raison.bench.endpoint.money import dollars
from raison.bench.endpoint.records import Measured, Served
from raison.bench.endpoint.summary import Cell
from raison.errors import UserError
from raison.files import write_atomic
from raison.serve.prices import Price

OWN = tuple(field.name for field in fields(Measured) if field.name not in ("served", "gaps"))
SERVED = tuple(field.name for field in fields(Served))
HEADER = ("input", "load", "number", *OWN, *(f"served_{name}" for name in SERVED), "dollars")


def write_csv(path: Path, cells: Sequence[Cell], price: Price | None) -> None:
    """Raises UserError where it cannot be written. What is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for cell in cells:
        writer.writerows(_lines(cell, price))
    write_text(path, text.getvalue())


def _lines(cell: Cell, price: Price | None) -> Iterator[list[object]]:
    for number, row in enumerate(cell.rows):
        own = [getattr(row, name) for name in OWN]
        served = [getattr(row.served, name) for name in SERVED]
        cost = dollars(row, price) if price is not None and row.events else None
        yield [cell.input, cell.load.name, number, *own, *served, cost]


def write_text(path: Path, text: str) -> None:
    """In one step. Raises UserError that names the file."""
    try:
        write_atomic(path, text.encode())
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
