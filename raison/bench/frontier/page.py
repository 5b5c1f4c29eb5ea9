"""A frontier's report.html, and its plots as SVG files beside it.

Not covered: the plots themselves (pictures.py), the words (words.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from raison.bench.frontier import words
from raison.bench.frontier.grid import Grid, dump
from raison.bench.frontier.pictures import pictures
from raison.bench.frontier.prices import CURRENCIES
from raison.bench.frontier.result import Analysis
from raison.bench.page import page
from raison.bench.plots import standing
from raison.bench.report import FILTERS, NAME
from raison.files import write_atomic

TEMPLATE = Path(__file__).with_name("page.html.j2")


def write_page(folder: Path, grid: Grid, found: dict[str, Any], analysis: Analysis) -> Path:
    """Returns the page's path. Raises UserError where matplotlib is missing."""
    drawn = pictures(grid, analysis)
    for name, picture in drawn.items():
        write_atomic(folder / f"{name}.svg", standing(picture).encode())
    best = sorted((p for p in found["points"] if p["on_frontier_flops"]), key=lambda p: p["total_flops"])
    html = page(
        TEMPLATE, FILTERS, found=found, grid=dump(grid), best=best, check=found.get("check"),
        answers={currency: words.answer(found, currency) for currency in CURRENCIES},
        tested=words.tested(found["check"]) if "check" in found else [],
        anew=words.anew(found["check"]) if "check" in found else "",
        plots={name: Markup(picture) for name, picture in drawn.items()},
    )  # fmt: skip
    write_atomic(folder / NAME, html.encode())
    return folder / NAME
