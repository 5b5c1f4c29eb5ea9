"""The measurement as an HTML page: figures with intervals, plots, what failed, what the server says, what to doubt.

Not covered: single requests (table.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from raison.bench.endpoint.plots import over_time, spreads
from raison.bench.endpoint.summary import Cell
from raison.bench.endpoint.table import write_text
from raison.bench.endpoint.words import FIGURES, cell_words, percentiles
from raison.bench.page import page

TEMPLATE = Path(__file__).with_name("endpoint.html.j2")


def write_page(path: Path, result: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """Raises UserError where matplotlib is missing or the file cannot be written."""
    kept = [cell for cell in cells if cell.rows]
    html = page(
        TEMPLATE,
        filters={},
        result=result,
        figures=FIGURES,
        percentiles=percentiles,
        words=[cell_words(cell) for cell in result["cells"]],
        spreads=Markup(spreads(result["cells"])) if result["cells"] else "",
        times=Markup(over_time(kept)) if kept else "",
    )
    write_text(path, html)
