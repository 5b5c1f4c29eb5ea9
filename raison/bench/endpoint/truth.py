"""The benchmark on a server whose delays are known: how far what it finds is from the truth, on this machine, now.

The server runs in a process of its own. Not covered: a network between the two.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from raison.bench.endpoint.client import Client
from raison.bench.endpoint.counting import Counter, load_counter
from raison.bench.endpoint.figures import PERCENTILES
from raison.bench.endpoint.known_server import KnownServer, Script
from raison.bench.endpoint.load import Load
from raison.bench.endpoint.prompts import Form
from raison.bench.endpoint.run import Input, Plan, run
from raison.bench.endpoint.summary import Cell, summarise
from raison.bench.note import Note, unheard

SCRIPTS = {
    "answer": Script(first=0.15, gap=0.01, answer=100),
    "thinking": Script(first=0.05, gap=0.02, thinking=30, answer=30),
    "pieces of 4": Script(first=0.3, gap=0.04, answer=40, each=4, usage="none"),
    "fast": Script(first=0.01, gap=0.004, thinking=20, answer=150, field="tags"),
}
LOADS = (Load(parallel=1), Load(parallel=10), Load(rate=4, arrivals="constant"))
BOUND = 0.002
"""Seconds by which a percentile may be off."""
REQUESTS = 10


def truth(script: Script) -> dict[str, float]:
    """What the definitions make of the script, in seconds and tokens."""
    pieces = script.thinking + script.answer
    return {
        "ttft": script.first, "ttfat": script.first + script.thinking * script.gap, "itl": script.gap / script.each,
        "end_to_end": script.first + (pieces - 1) * script.gap,
        "thinking_tokens": script.each * script.thinking, "answer_tokens": script.each * script.answer,
    }  # fmt: skip


def errors(cell: dict[str, Any], script: Script) -> dict[str, float]:
    """The largest difference from the truth of any of P5 .. P95."""
    return {
        name: max(abs(cell["metrics"][name][f"p{p}"]["value"] - true) for p in PERCENTILES)
        for name, true in truth(script).items()
    }


def check(note: Note = unheard) -> dict[str, Any]:
    """Measure every script under every load; {"cells", "worst", "sound"}: sound where all is within BOUND."""
    cells: list[dict[str, Any]] = []
    with serving() as url:
        for name, script in SCRIPTS.items():
            for cell in asyncio.run(_measured(url, name)):
                off = errors(cell, script)
                cells.append({"script": name, "load": cell["load"], "errors": off, "warnings": cell["warnings"]})
                note(
                    f"{name}, {cell['load']}: " + ", ".join(f"{figure} {1000 * off[figure]:.2f} ms" for figure in TIMES)
                )
    worst = max(cell["errors"][figure] for cell in cells for figure in TIMES)
    counts = max(cell["errors"][figure] for cell in cells for figure in COUNTS)
    return {"bound": BOUND, "worst": worst, "sound": worst <= BOUND and counts == 0, "cells": cells}


TIMES = ("ttft", "ttfat", "itl", "end_to_end")
COUNTS = ("thinking_tokens", "answer_tokens")


async def _measured(url: str, model: str) -> list[dict[str, Any]]:
    counter: Counter = load_counter("")
    found: list[Cell] = []
    plan = Plan(Form(model, 1000), counter, [Input("200 tokens", 200)], LOADS, REQUESTS, None, seed=0)
    async with Client(url, "", timeout=60) as client:
        await run(client, plan, found.append)
    return [summarise(cell, {}, None) for cell in found]


@contextmanager
def serving() -> Iterator[str]:
    """The URL of a known server in a process of its own, which ends with the block."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve(told: Connection) -> None:
    async def forever() -> None:
        async with KnownServer(SCRIPTS) as server:
            told.send(server.url)
            await asyncio.Event().wait()

    asyncio.run(forever())
