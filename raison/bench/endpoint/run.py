"""The measurement: every input under every load, one after the other, and what came of each.

Prompts are made, and answers read and checked, while no clock runs; while one does, the loop only sends, stamps and
keeps. A stop (^C) ends the requests under way, keeps what was measured and leaves out the rest. Not covered: how it is
shown (cli/bench_endpoint.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any

from raison.bench.endpoint import prompts
from raison.bench.endpoint.client import Client
from raison.bench.endpoint.counting import Counter
from raison.bench.endpoint.load import Load, drive
from raison.bench.endpoint.prompts import Form
from raison.bench.endpoint.reading import read
from raison.bench.endpoint.records import STOPPED, Ask, Exchange, Measured
from raison.bench.endpoint.server_side import samples
from raison.bench.endpoint.summary import Cell
from raison.bench.endpoint.timing import measured
from raison.bench.endpoint.watch import Watch, undisturbed
from raison.errors import UserError
from raison.tasks.task import Task

WARM_LONGEST, WARM_USUAL = 1000, 200
"""Tokens of a prompt to warm up with: at most, and where prompts have no size that was asked for."""
TICK = 0.5
"""Seconds between looks at the progress."""
SETTLE = 0.3
"""Seconds that a server has to bring its counters up to date."""
HOPELESS = (0, 400, 401, 403, 404, 405, 413, 422)
"""Statuses that asking again does not change; 0 is no answer."""
APART = 1_000_003
"""Between the problems of two cells: more than any cell asks."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a cell's measurement stands."""

    cell: str
    done: int
    failed: int
    requests: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Input:
    """What is asked in a cell: one of the three."""

    name: str
    size: int = 0
    """Tokens of a synthetic prompt."""
    conversations: Sequence[list[prompts.Message]] = ()
    task: Task | None = None
    level: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    form: Form
    counter: Counter
    inputs: Sequence[Input]
    loads: Sequence[Load]
    requests: int
    warm_up: int | None
    """Requests before a cell is measured; None: as many as it has in parallel."""
    seed: int
    tell: Callable[[Progress], None] = field(default=lambda progress: None)
    note: Callable[[str], None] = field(default=lambda text: None)


async def run(client: Client, plan: Plan, keep: Callable[[Cell], None]) -> bool:
    """Measure every cell and `keep` each; False where a stop ended it early, and then what of the last cell there is.

    Raises UserError where nothing is served.
    """
    conversations = {given.name: cycle(given.conversations) for given in plan.inputs}
    cells = [(given, load) for given in plan.inputs for load in plan.loads]
    try:
        for number, (given, load) in enumerate(cells):
            plan.note(f"{given.name}, {load.name}: {plan.requests} requests")
            asks = _asks(plan, given, number, conversations[given.name])
            await _warm_up(client, plan, given, load, number)
            cell, stopped = await _cell(client, plan, given, load, asks)
            keep(cell)
            if stopped:
                return False
    except asyncio.CancelledError:  # between two cells
        return False
    return True


def _asks(plan: Plan, given: Input, number: int, conversations: Iterator[list[prompts.Message]]) -> list[Ask]:
    """Prompts of cell `number`, unlike those of every other cell as far as its input has any."""
    form, counter, count = plan.form, plan.counter, plan.requests
    if given.task is not None:
        return prompts.problem_asks(form, counter, given.task, given.level, count, plan.seed + number * APART)
    if given.conversations:
        return prompts.file_asks(form, counter, conversations, count)
    return prompts.synthetic_asks(form, counter, given.size, count, f"{plan.seed}/{number}")


async def _warm_up(client: Client, plan: Plan, given: Input, load: Load, number: int) -> None:
    """Open the connections and wake the server. Raises UserError where it refuses every request."""
    count = (load.parallel or 1) if plan.warm_up is None else plan.warm_up
    size = min(given.size or WARM_USUAL, WARM_LONGEST)
    asks = prompts.warm_up_asks(plan.form, plan.counter, size, count, f"{plan.seed}/{number}")
    told: list[Exchange] = []
    await drive(Load(parallel=max(1, count)), count, lambda i, _: client.ask(asks[i].body, told.append), plan.seed)
    if told and all(exchange.status in HOPELESS for exchange in told):
        first = read(told[0])
        said = f"{first.outcome}: {first.detail}" if first.detail else first.outcome
        raise UserError(f"{client.url} refuses every request with {said}")


async def _cell(client: Client, plan: Plan, given: Input, load: Load, asks: Sequence[Ask]) -> tuple[Cell, bool]:
    """Measure one cell; True where a stop ended it."""
    told: dict[int, Exchange] = {}

    async def send(number: int, due: float | None) -> None:
        await client.ask(asks[number].body, lambda exchange: told.update({number: exchange}), due)

    before = samples(await client.metrics())
    with undisturbed():
        watch, began = Watch(), time.perf_counter()
        beside = (watch.look(), _tick(plan, f"{given.name}, {load.name}", told, began))
        stopped = await _until_stopped(drive(load, len(asks), send, plan.seed), beside)
        seen = watch.result()
    ended = max((exchange.ended for exchange in told.values()), default=began)
    await asyncio.sleep(SETTLE)
    after = samples(await client.metrics())
    rows = tuple(_row(plan.counter, given.task, asks[number], told[number], began) for number in sorted(told))
    unique = not given.conversations or plan.requests * len(plan.loads) <= len(given.conversations)
    return Cell(given.name, load, rows, max(ended - began, 1e-9), seen, before, after, unique), stopped


async def _until_stopped(work: Coroutine[Any, Any, None], beside: Iterable[Coroutine[Any, Any, None]]) -> bool:
    """Do the work, with other things beside it that end with it; True where a stop ended it."""
    tasks = [asyncio.create_task(one) for one in beside]
    try:
        await work
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) is not None:
            task.uncancel()  # what was measured is still to be read
        return True
    finally:
        for one in tasks:
            one.cancel()
    return False


async def _tick(plan: Plan, cell: str, told: Mapping[int, Exchange], began: float) -> None:
    while True:
        await asyncio.sleep(TICK)
        failed = sum(bool(exchange.status != 200 or exchange.failure) for exchange in told.values())
        plan.tell(Progress(cell, len(told), failed, plan.requests, time.perf_counter() - began))


def _row(counter: Counter, task: Task | None, ask: Ask, exchange: Exchange, began: float) -> Measured:
    """Read, timed, and checked where there is something to check: what failed is not correct."""
    heard = read(exchange)
    row = measured(ask, exchange, heard, counter, began)
    if task is None or ask.problem is None or row.outcome == STOPPED:
        return row
    return replace(row, correct=row.whole and task.check(ask.problem, heard.answer).correct)
