"""`raison frontier`: how long it will take, the cells as they end, and where the next dollar should go.

A run's folder is `<runs>/frontier-<grid's name>-<date>-<time>`. `--resume` goes on with the newest unfinished one of
this very grid, or asks the newest finished one for `--flops` or `--check`. Not covered: the run itself
(bench/frontier/).
"""

from __future__ import annotations

import math
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from raison.bench.frontier import words
from raison.bench.frontier.cells import Cell
from raison.bench.frontier.forecast import Clock
from raison.bench.frontier.grid import Grid, dump, load_grid, shipped_grid
from raison.bench.frontier.prices import CURRENCIES
from raison.bench.frontier.record import Record
from raison.bench.frontier.run import GRID, RESULT, Frontier
from raison.bench.report import NAME
from raison.cli.entry import STOPPED
from raison.cli.measure_parser import CHECK_SEEDS
from raison.cli.output import console_for, emit_json, visible
from raison.cli.session import prepare, program
from raison.errors import UserError
from raison.metrics import Sink, StepMetrics
from raison.progress import ConsoleSink, clock_time
from raison.train.bill import Bill
from raison.train.loop import Stopped
from raison.train.outcome import StageOutcome


def command(arguments: Namespace) -> int:
    seeds = _seeds(arguments)
    grid = load_grid(arguments.grid) if arguments.grid else shipped_grid(arguments.task, arguments.mini)
    prepare(arguments.threads)
    console = console_for(arguments)
    watch = FrontierConsole(console)
    if arguments.predict:
        return _predict(grid, watch)
    folder = _unfinished(arguments, grid) if arguments.resume else _new_folder(arguments.runs, grid)
    console.print(Text(f"  {grid.name} in {folder}"), soft_wrap=True)
    try:
        found = Frontier(grid, folder, watch).run(seeds, arguments.flops)
    except Stopped as stopped:
        console.print(Text(f"\n  {stopped}\n  {_resume_line(arguments)}  goes on"), soft_wrap=True)
        return STOPPED
    _closing(console, found, folder)
    if arguments.json:
        emit_json({"folder": str(folder), "result": str(folder / RESULT), **found})
    return 0


def _seeds(arguments: Namespace) -> int:
    """Of the check; 0 where none is asked for. Raises UserError for what cannot be."""
    if arguments.seeds is not None and not arguments.check:
        raise UserError("--seeds says how often --check trains each arm; give --check too")
    if arguments.seeds is not None and arguments.seeds < 1:
        raise UserError(f"--seeds is {arguments.seeds}; give at least 1")
    if arguments.flops is not None and not (0 < arguments.flops < math.inf):
        raise UserError(f"--flops is {arguments.flops:g}; give a budget above 0, as 5e13")
    return (arguments.seeds or CHECK_SEEDS) if arguments.check else 0


def _predict(grid: Grid, watch: FrontierConsole) -> int:
    with tempfile.TemporaryDirectory() as folder:
        clock = Frontier(grid, Path(folder), watch).predict()
    watch.forecast(clock, list(clock.cells), 0)
    return 0


def _new_folder(runs: Path, grid: Grid) -> Path:
    return runs / f"frontier-{grid.name}-{time.strftime('%Y%m%d-%H%M%S')}"


def _unfinished(arguments: Namespace, grid: Grid) -> Path:
    """The newest run of exactly this grid that has no result yet; any where something is asked of it."""
    asks = arguments.check or arguments.flops is not None
    text = dump(grid)
    found = sorted(arguments.runs.glob(f"frontier-{grid.name}-*/{GRID}"), key=lambda p: p.stat().st_mtime, reverse=True)
    for path in found:
        if path.read_text(encoding="utf-8") == text and (asks or not (path.parent / RESULT).exists()):
            folder: Path = path.parent
            return folder
    raise UserError(
        f"there is no unfinished run of this grid in {arguments.runs}; leave out --resume to start one"
        + (f" (there are {len(found)} of other versions of it)" if found else "")
    )


def _resume_line(arguments: Namespace) -> str:
    words = [program(), "frontier", "--resume"]
    words += [f"--{name}" for name in ("mini", "check") if getattr(arguments, name)]
    words += [f"--grid {arguments.grid}"] if arguments.grid else []
    words += [f"--{name} {value}" for name in ("seeds", "flops") if (value := getattr(arguments, name)) is not None]
    words += [f"--runs {arguments.runs}"] if arguments.runs != Path("runs") else []
    return " ".join(words)


class FrontierConsole:
    """Implements bench.frontier.run.FrontierWatch: a line for each cell, its steps live while it trains."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def forecast(self, clock: Clock, waiting: Sequence[Cell], done: int) -> None:
        before = f"; {done} were done before" if done else ""
        models = f"{len(waiting)} model{'s' * (len(waiting) != 1)}"
        self._say(f"  {models} to train and measure, predicted {clock_time(clock.total)}{before}")
        if waiting:
            self._say("  ^C stops cleanly, and --resume goes on\n")

    def cell_done(self, record: Record, left: float) -> None:
        single, voted = record.best_single, max(record.points, key=lambda point: (point.votes, point.budget))
        flops = record.training.flops + record.reinforcement.flops
        self._say(
            f"✓ {record.cell.id:<24} loss {record.loss:.3f}  pass@1 {single.accuracy}  "
            f"{voted.votes} votes {voted.accuracy.value:.3f}  {flops:.1e} FLOPs  "
            f"{clock_time(record.seconds)}  {clock_time(left)} left"
        )

    def note(self, text: str) -> None:
        if text.startswith(("timing", "fitting", "no report")):
            self._say(f"  · {text}")

    def predicted(self, bill: Bill) -> None:
        """Said for all cells at once."""

    def stage_started(self, stage: str, steps: int) -> None:
        """The sink shows it."""

    def sink(self, stage: str) -> Sink:
        """Steps are shown as they come, but a log has a line for each cell alone."""
        return ConsoleSink(self._console, math.inf) if self._console.is_terminal else Unseen()

    def stage_done(self, outcome: StageOutcome) -> None:
        """The cell's line says more."""

    def _say(self, text: str) -> None:
        self._console.print(Text(visible(text)), soft_wrap=True)


class Unseen:
    """Nobody watches."""

    def write(self, metrics: StepMetrics) -> None:
        """Implements metrics.Sink."""

    def close(self) -> None:
        """Implements metrics.Sink."""


def _closing(console: Console, found: dict[str, object], folder: Path) -> None:
    console.print(_frontier_table(found))
    for currency in CURRENCIES:
        console.print(Text("\n" + "\n".join(f"  {line}" for line in words.answer(found, currency))), soft_wrap=True)
    check = found.get("check")
    if isinstance(check, dict):
        console.print(Text(f"\n  within {check['budget_flops']:.2e} FLOPs, {words.anew(check)}:"), soft_wrap=True)
        for line in words.tested(check):
            console.print(Text(f"    {line}"), soft_wrap=True)
    console.print(Text(f"\n  report:  {folder / NAME}\n  result:  {folder / RESULT}"), soft_wrap=True)


def _frontier_table(found: dict[str, object]) -> Table:
    """The points that no cheaper one equals, by FLOPs."""
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    table.add_column("on the frontier")
    for name in ("budget", "votes", "accuracy", "tokens", "FLOPs", "$"):
        table.add_column(name, justify="right")
    points = [p for p in found["points"] if p["on_frontier_flops"]]  # type: ignore[attr-defined]
    for p in sorted(points, key=lambda p: float(p["total_flops"])):
        a = p["accuracy"]
        table.add_row(
            p["cell"], str(p["budget"]), str(p["votes"]), f"{a['value']:.3f} [{a['low']:.3f}, {a['high']:.3f}]",
            f"{p['tokens']:.0f}", f"{p['total_flops']:.2e}", f"{p['total_usd']:.2g}",
        )  # fmt: skip
    return table
