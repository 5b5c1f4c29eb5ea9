"""`raison bench`: how fast this machine trains and runs a model, against whom, and what guessing ahead brings."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.table import Table
from rich.text import Text

from raison.bench.engine_speed import Load, bench_engine, random_file
from raison.bench.guessing import Work, bench_guesses
from raison.bench.load_speed import bench_load
from raison.bench.training import bench_training
from raison.cli import bench_soak
from raison.cli.output import console_for, emit_json
from raison.cli.session import prepare
from raison.engine.twin import DTYPES, Dtype
from raison.errors import UserError, nearest
from raison.reasoner import load


def command(arguments: Namespace) -> int:
    kinds = {"train": _train, "engine": _engine, "load": _load, "guesses": _guesses, "soak": bench_soak.command}
    return kinds[arguments.bench](arguments)


def _train(arguments: Namespace) -> int:
    if arguments.steps < 1:
        raise UserError(f"--steps is {arguments.steps}; it must be at least 1")
    threads = prepare(arguments.threads)
    console = console_for(arguments)
    result: dict[str, Any] = bench_training(
        steps=arguments.steps,
        against=arguments.against,
        threads=threads,
        note=lambda text: console.print(Text(f"· {text}"), soft_wrap=True),
    )
    for name, value in result.items():
        if isinstance(value, int | float | str):
            shown = f"{value:,.4g}" if isinstance(value, float) else f"{value}"
            console.print(Text(f"  {name.replace('_', ' '):<32} {shown}"), soft_wrap=True)
    if arguments.json:
        emit_json(result)
    return 0


def _load(arguments: Namespace) -> int:
    rounds = _number(str(arguments.rounds), "--rounds")
    threads = prepare(arguments.threads)
    console = console_for(arguments)
    result = bench_load(
        arguments.model, rounds, arguments.against, threads,
        note=lambda text: console.print(Text(f"· {text}"), soft_wrap=True),
    )  # fmt: skip
    for name, value in result.items():
        if isinstance(value, float):
            console.print(Text(f"  {name.replace('_', ' '):<32} {value:.3f}"), soft_wrap=True)
    if arguments.json:
        emit_json(result)
    return 0


def _engine(arguments: Namespace) -> int:
    streams = tuple(_number(word, "--streams") for word in arguments.streams.split(","))
    for name in ("prompt", "tokens", "rounds"):
        _number(str(getattr(arguments, name)), f"--{name}")
    threads = prepare(arguments.threads)
    console = console_for(arguments)
    load = Load(
        streams, arguments.prompt, arguments.tokens, arguments.rounds, arguments.temperature, not arguments.different
    )
    if arguments.shape and arguments.model:
        raise UserError(f"--shape {arguments.shape} is measured instead of a model; leave out {arguments.model}")
    with TemporaryDirectory() as scratch:
        if arguments.shape:
            console.print(Text(f"· making a file of {arguments.shape} with random weights"))
        model = str(random_file(arguments.shape, Path(scratch))) if arguments.shape else arguments.model
        result = bench_engine(
            model, load, _words(arguments.against), _widths(arguments.widths), threads, Path(scratch),
            note=lambda text: console.print(Text(f"· {text}"), soft_wrap=True),
        )  # fmt: skip
    console.print(_table(result["rates"], streams))
    for rival, ratios in result["ratios"].items():
        shown = "  ".join(f"{n}: {ratio:.2f}" for n, ratio in ratios.items())
        console.print(Text(f"  times faster than {rival}, by streams   {shown}"), soft_wrap=True)
    for name, shares in (("bandwidth", result["share_of_bandwidth"]), ("int8 peak", result["share_of_int8_peak"])):
        shown = "  ".join(f"{n}: {share:.0%}" for n, share in shares.items())
        console.print(Text(f"  our share of the measured {name}, by streams   {shown}"), soft_wrap=True)
    if arguments.json:
        emit_json(result)
    return 0


def _guesses(arguments: Namespace) -> int:
    depths = [_number(word, "--depths") for word in _words(arguments.depths)]
    problems, streams, rounds = (
        _number(str(getattr(arguments, name)), f"--{name}") for name in ("problems", "streams", "rounds")
    )
    if not depths or arguments.temperature < 0:
        raise UserError("--depths needs whole numbers such as 1,2,3, and --temperature is 0 or more")
    threads = prepare(arguments.threads)
    console = console_for(arguments)
    reasoner = load(arguments.model, dtype=arguments.dtype)
    result = bench_guesses(
        reasoner, Work(problems, streams, rounds, arguments.temperature), depths,
        note=lambda text: console.print(Text(f"· {text}"), soft_wrap=True),
    )  # fmt: skip
    console.print(_ways(result))
    if arguments.json:
        emit_json({**result, "model": str(arguments.model or "shipped"), "threads": threads})
    return 0


def _ways(result: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    for name in ("guesses", "tokens/s", "a step", "right", "times as fast"):
        table.add_column(name, justify="left" if name == "guesses" else "right")
    for way, rate in result["rates"].items():
        right, gain = (result[key].get(way) for key in ("right", "gains"))
        shown = ("-" if right is None else f"{right:.0%}", "1" if gain is None else f"{gain:.2f}")
        table.add_row(way, f"{rate:,.0f}", f"{result['tokens_a_step'][way]:.2f}", *shown)
    return table


def _table(rates: dict[str, dict[str, float]], streams: Sequence[int]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    table.add_column("tokens/s")
    for count in streams:
        table.add_column(f"{count}", justify="right")
    for name, row in rates.items():
        table.add_row(name, *(f"{row[str(count)]:,.0f}" for count in streams))
    return table


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _number(word: str, option: str) -> int:
    if not word.strip().isdecimal() or int(word) < 1:
        raise UserError(f"{option} has {word!r}; give whole numbers of at least 1")
    return int(word)


def _widths(text: str) -> list[Dtype]:
    found: list[Dtype] = []
    for word in _words(text):
        if word not in DTYPES:
            raise UserError(f'there is no width "{word}": {nearest(word, DTYPES)}')
        found.append(word)  # type: ignore[arg-type]  # the line above has looked
    return found
