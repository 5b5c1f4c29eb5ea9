"""`raison bench endpoint`: what was typed into a plan, the measurement with a line of progress, and what came of it.

^C ends the measurement, and what was measured until then is told; a second one ends at once. The exit code is 1 where
not one answer came to its end. Not covered: the
measurement (bench/endpoint/), the words for its figures (bench/endpoint/words.py).
"""

from __future__ import annotations

import asyncio
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

import raison
from raison.bench.endpoint import truth
from raison.bench.endpoint.client import Client
from raison.bench.endpoint.figures import PERCENTILES
from raison.bench.endpoint.page import write_page
from raison.bench.endpoint.run import Plan, run
from raison.bench.endpoint.summary import Cell, summarise
from raison.bench.endpoint.table import write_csv
from raison.bench.endpoint.words import FIGURES, cell_words, percentiles
from raison.cli.bench_endpoint_plan import Wish, wish_of
from raison.cli.entry import STOPPED
from raison.cli.output import console_for, emit_json, visible
from raison.cli.ticker import Ticker
from raison.endpoint import key_of
from raison.errors import UserError
from raison.serve.prices import Price

SHIPPED_NOTE = (
    "the shipped vocabulary counts about one token a letter of prose; for figures that compare with other people's "
    "give a model's: --tokenizer FILE"
)


def command(arguments: Namespace) -> int:
    console = console_for(arguments)
    if arguments.self_test:
        return _self_test(arguments, console)
    ticker, cells, found = Ticker(console), list[Cell](), list[dict[str, Any]]()
    wish = wish_of(arguments, ticker.tell, ticker.note)

    def keep(cell: Cell) -> None:
        cells.append(cell)
        found.append(summarise(cell, wish.limits, wish.price))
        ticker.clear()
        _show(console, found[-1])

    plan, whole = asyncio.run(_measure(wish, keep))
    result = {**_given(wish, plan), "stopped": not whole, "cells": found}
    if arguments.json:
        emit_json(result)  # first: it cannot fail as files can
    _write(arguments, console, result, cells, wish.price)
    if not whole:
        return STOPPED
    return 0 if any(cell["whole"] for cell in found) else 1


async def _measure(wish: Wish, keep: Callable[[Cell], None]) -> tuple[Plan, bool]:
    """The plan as it was carried out, and False where ^C ended it."""
    section, plan = wish.section, wish.plan
    async with Client(section.url, key_of(section) if section.key_env else "", section.timeout_seconds) as client:
        model = section.model or _only(await client.models())
        plan = replace(plan, form=replace(plan.form, model=model))
        return plan, await run(client, plan, keep)


def _only(models: Sequence[str]) -> str:
    """Raises UserError where it is not clear which to measure."""
    if len(models) != 1:
        some = ", ".join(models[:8]) + (", ..." if len(models) > 8 else "")
        raise UserError(f"the endpoint lists {len(models)} models; --model names one of: {some or 'none'}")
    return models[0]


def _given(wish: Wish, plan: Plan) -> dict[str, Any]:
    """What the figures are figures of."""
    form, counter = plan.form, plan.counter
    return {
        "endpoint": wish.section.url, "model": form.model, "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "raison": raison.__version__, "tokenizer": {"name": counter.name, "shipped": counter.shipped},
        "seed": plan.seed, "max_tokens": form.max_tokens, "temperature": form.temperature,
        "ignore_eos": form.ignore_eos, "body": dict(form.extra), "limits": dict(wish.limits),
        "notes": [SHIPPED_NOTE] if counter.shipped else [],
    }  # fmt: skip


def _self_test(arguments: Namespace, console: Console) -> int:
    result = truth.check(lambda text: console.print(Text(f"· {text}"), soft_wrap=True))
    said = f"at most {1000 * result['worst']:.2f} ms off at P5 .. P95; the bound is {1000 * result['bound']:g} ms"
    console.print(Text(f"{'✓' if result['sound'] else '✗'} {said}"), soft_wrap=True)
    if arguments.json:
        emit_json(result)
    return 0 if result["sound"] else 1


def _show(console: Console, cell: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    table.add_column(f"{cell['input']}, {cell['load']}")
    for percentile in PERCENTILES:
        table.add_column(f"P{percentile}" + (" [95 %]" if percentile == 50 else ""), justify="right")
    for name, title in FIGURES.items():
        if cell["metrics"][name]:
            table.add_row(title, *percentiles(name, cell["metrics"][name]))
    console.print(table)
    for text in cell_words(cell):
        console.print(Text(f"  {visible(text)}"), soft_wrap=True)
    console.print()


def _write(
    arguments: Namespace, console: Console, result: dict[str, Any], cells: Sequence[Cell], price: Price | None
) -> None:
    counted = f"tokens counted in the vocabulary {result['tokenizer']['name']}; seed {result['seed']}"
    console.print(Text(f"  {visible(counted)}"), soft_wrap=True)
    for note in result["notes"]:
        console.print(Text(f"  ! {note}"), soft_wrap=True)
    if arguments.csv:
        write_csv(Path(arguments.csv), cells, price)
        console.print(Text(f"  requests: {arguments.csv}"), soft_wrap=True)
    if arguments.report:
        write_page(Path(arguments.report), result, cells)
        console.print(Text(f"  page: {arguments.report}"), soft_wrap=True)
