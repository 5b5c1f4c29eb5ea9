"""`raison bench train`: how fast this machine trains, and against whom."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from rich.text import Text

from raison.bench.training import bench_training
from raison.cli.output import console_for, emit_json
from raison.cli.session import prepare
from raison.errors import UserError


def command(arguments: Namespace) -> int:
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
