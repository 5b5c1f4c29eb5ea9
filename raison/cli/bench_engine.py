"""`raison bench engine`: tables of tokens/s, ours and other people's, with memory and quality; a plot where asked."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from raison.bench.engine_speed import bench_engine
from raison.bench.loads import KINDS, Kind, Load
from raison.bench.random_file import random_file
from raison.bench.rivals import PACKAGES
from raison.bench.speed_plots import write_plot
from raison.cli.given import known_words, whole_number, whole_numbers
from raison.cli.output import console_for, emit_json
from raison.cli.session import prepare
from raison.engine.twin import DTYPES, Dtype
from raison.errors import UserError
from raison.reasoner import SHIPPED

TITLES = {
    "shared": "tokens/s, one prompt for all streams", "different": "tokens/s, a prompt for each stream",
    "prefill": "tokens/s of a prompt of so many, one stream",
}  # fmt: skip


def command(arguments: Namespace) -> int:
    load, against, widths = _asked(arguments)
    threads = prepare(arguments.threads)
    console = console_for(arguments)
    with TemporaryDirectory() as scratch:
        result = bench_engine(
            _model(arguments, Path(scratch), console), load, against, widths, threads, Path(scratch),
            note=lambda text: console.print(Text(f"· {text}"), soft_wrap=True),
        )  # fmt: skip
    _show(console, result)
    if arguments.plot:
        write_plot(result, Path(arguments.plot))
        console.print(Text(f"  plot: {arguments.plot}"), soft_wrap=True)
    if arguments.json:
        emit_json(result)
    return 0


def _asked(arguments: Namespace) -> tuple[Load, list[str], list[Dtype]]:
    """All that was typed, checked before any work."""
    numbers = {
        name: whole_number(str(getattr(arguments, name)), f"--{name}") for name in ("prompt", "tokens", "rounds")
    }
    kinds = known_words(arguments.loads, KINDS, "load")
    if not kinds or arguments.temperature < 0:
        raise UserError(f"--loads needs at least one of {', '.join(KINDS)}, and --temperature is 0 or more")
    load = Load(
        streams=whole_numbers(arguments.streams, "--streams"), temperature=arguments.temperature,
        kinds=tuple(cast(list[Kind], kinds)), prefill=whole_numbers(arguments.prefill, "--prefill"), **numbers,
    )  # fmt: skip
    against = known_words(arguments.against, PACKAGES, "rival")
    return load, against, cast(list[Dtype], known_words(arguments.widths, DTYPES, "width"))


def _model(arguments: Namespace, scratch: Path, console: Console) -> str:
    if not arguments.shape:
        return str(arguments.model or SHIPPED)
    if arguments.model:
        raise UserError(f"--shape {arguments.shape} is measured instead of a model; leave out {arguments.model}")
    console.print(Text(f"· making a file of {arguments.shape} with random weights"))
    return str(random_file(arguments.shape, scratch))


def _show(console: Console, result: Mapping[str, Any]) -> None:
    for kind, table in result["loads"].items():
        console.print(Text(TITLES[kind], style="bold"))
        console.print(_table(table["rates"], "{:,.0f}"))
        if kind == "prefill":
            console.print(Text("seconds to the first token", style="bold"))
            console.print(_table(table["first_token_seconds"], "{:.3f}"))
        for rival, row in table["ratios"].items():
            console.print(Text(f"  times faster than {rival}: {_row(row, '{:.2f}')}"), soft_wrap=True)
    console.print(Text(f"perplexity; MiB with {result['memory_streams']} streams, libraries apart", style="bold"))
    console.print(_qualities(result["perplexity"], result["memory_bytes"]))
    for name in ("bandwidth", "int8_peak", "floor"):
        if shares := result[f"share_of_{name}"]:
            said = f"  our share of the measured {name.replace('_', ' ')}, by streams: {_row(shares, '{:.0%}')}"
            console.print(Text(said), soft_wrap=True)
    if result["absent"]:
        console.print(Text(f"  not installed, and so left out: {', '.join(result['absent'])}"), soft_wrap=True)


def _row(row: Mapping[str, float], form: str) -> str:
    return "  ".join(f"{column}: {form.format(value)}" for column, value in row.items())


def _table(rows: Mapping[str, Mapping[str, float]], form: str) -> Table:
    columns = next(iter(rows.values()), {})
    table = _columns(("", *columns))
    for name, row in rows.items():
        table.add_row(name, *(form.format(row[column]) for column in columns))
    return table


def _qualities(perplexity: Mapping[str, float], memory: Mapping[str, int]) -> Table:
    table = _columns(("", "perplexity", "MiB"))
    for name, size in memory.items():
        said = f"{perplexity[name]:.4g}" if name in perplexity else "tells none"
        table.add_row(name, said, f"{size / 2**20:,.0f}")
    return table


def _columns(names: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    for name in names:
        table.add_column(name, justify="right" if name else "left")
    return table
