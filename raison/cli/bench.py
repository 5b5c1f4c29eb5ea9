"""`raison bench`: how fast this machine trains and runs a model, against whom; and how fast an endpoint answers."""

from __future__ import annotations

import math
from argparse import Namespace
from typing import Any

from rich.table import Table
from rich.text import Text

from raison.bench.guessing import Work, bench_guesses
from raison.bench.load_speed import bench_load
from raison.bench.training import bench_training
from raison.cli import bench_accuracy, bench_engine, bench_soak, bench_think
from raison.cli.given import whole_number, words
from raison.cli.output import console_for, emit_json
from raison.cli.session import prepare
from raison.errors import UserError
from raison.reasoner import load


def command(arguments: Namespace) -> int:
    kinds = {
        "train": _train, "engine": bench_engine.command, "load": _load, "guesses": _guesses,
        "soak": bench_soak.command, "think": bench_think.command, "accuracy": bench_accuracy.command,
        "endpoint": _endpoint,
    }  # fmt: skip
    return kinds[arguments.bench](arguments)


def _endpoint(arguments: Namespace) -> int:
    try:
        from raison.cli import bench_endpoint  # an extra: only who measures an endpoint needs its client
    except ModuleNotFoundError as error:
        raise UserError(f"raison bench endpoint needs {error.name}: pip install 'raison[bench]'") from None
    return bench_endpoint.command(arguments)


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
    rounds = whole_number(str(arguments.rounds), "--rounds")
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


def _guesses(arguments: Namespace) -> int:
    depths = [whole_number(word, "--depths") for word in words(arguments.depths)]
    problems, streams, rounds = (
        whole_number(str(getattr(arguments, name)), f"--{name}") for name in ("problems", "streams", "rounds")
    )
    if not depths or not 0 <= arguments.temperature < math.inf:
        raise UserError("--depths needs whole numbers such as 1,2,3, and --temperature is 0 or more")
    threads = prepare(arguments.threads)
    console = console_for(arguments)
    reasoner = load(arguments.model, dtype=arguments.dtype, draft=arguments.draft)
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
