"""`raison run RECIPE`: the prediction, the stages as they run, the bill, the report, and how to go on.

A run's folder is `<runs>/<recipe's name>-<date>-<time>`. `--resume` goes on with the newest unfinished folder whose
resolved recipe is the one given. Not covered: the run itself (train/recipe.py).
"""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from raison.bench.report import write_report
from raison.cli.entry import STOPPED
from raison.cli.output import console_for, emit_json, visible
from raison.cli.session import prepare, program
from raison.config import Recipe, load_recipe
from raison.errors import UserError
from raison.hardware import Machine, probe
from raison.metrics import Sink, StepMetrics, TensorBoardSink
from raison.progress import ConsoleSink, clock_time
from raison.train.bill import Bill, sentence, short_count, table
from raison.train.loop import Stopped
from raison.train.outcome import StageOutcome
from raison.train.recipe import RunResult, run_recipe


def command(arguments: Namespace) -> int:
    recipe = load_recipe(arguments.recipe)
    if arguments.threads:
        recipe = replace(recipe, train=replace(recipe.train, threads=arguments.threads))
    console = console_for(arguments)
    folder = unfinished(arguments.runs, recipe) if arguments.resume else new_folder(arguments.runs, recipe)
    threads = prepare(recipe.train.threads)
    console.print(Text(f"  {recipe.name} in {folder}"), soft_wrap=True)
    watch = ConsoleWatch(console, probe(threads), folder / "tensorboard" if arguments.tensorboard else None)
    try:
        result = run_recipe(recipe, folder, watch=watch, resume=arguments.resume)
    except Stopped as stopped:
        console.print(Text(f"\n  {stopped}\n  {resume_line(arguments)}  goes on, bit for bit"), soft_wrap=True)
        return STOPPED
    report = _report(console, folder)
    _closing(console, result, report)
    if arguments.json:
        emit_json(
            {
                "folder": str(folder),
                "model": str(result.model),
                "report": None if report is None else str(report),
                "outcomes": [asdict(outcome) for outcome in result.outcomes],
                "bill": result.bill.to_json(),
                "evaluation": result.evaluation,
            }
        )
    return 0


def new_folder(runs: Path, recipe: Recipe) -> Path:
    """A folder that is not there yet, named by recipe and time; made by the run itself."""
    folder = runs / f"{recipe.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    number = 2
    while folder.exists():
        folder = folder.with_name(f"{folder.name.partition('+')[0]}+{number}")
        number += 1
    return folder


def unfinished(runs: Path, recipe: Recipe) -> Path:
    """The newest unfinished run of exactly this recipe. Raises UserError when there is none, saying what there is."""
    found = sorted(runs.glob(f"{recipe.name}-*/recipe.toml"), key=lambda path: path.stat().st_mtime, reverse=True)
    waiting = [path.parent for path in found if not is_finished(path.parent)]
    for folder in waiting:
        if _recipe_of(folder) == recipe:
            return folder
    if waiting:
        raise UserError(
            f"{waiting[0]} was made by another version of this recipe, and a run goes on only as it began; give "
            f"{waiting[0] / 'recipe.toml'} instead, or leave out --resume to start anew"
        )
    raise UserError(f"there is no unfinished run of {recipe.name} in {runs}; leave out --resume to start one")


def is_finished(folder: Path) -> bool:
    """Whether the run's own record says that it ended."""
    try:
        state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(state, dict) and bool(state.get("ended"))


def _recipe_of(folder: Path) -> Recipe | None:
    try:
        return load_recipe(folder / "recipe.toml")
    except UserError:
        return None


def resume_line(arguments: Namespace) -> str:
    """The command that goes on with this run."""
    threads = f" --threads {arguments.threads}" if arguments.threads else ""
    runs = f" --runs {arguments.runs}" if arguments.runs != Path("runs") else ""
    return f"{program()} run {arguments.recipe}{runs}{threads} --resume"


class ConsoleWatch:
    """Implements train.recipe.Watch on a console."""

    def __init__(self, console: Console, machine: Machine, tensorboard: Path | None) -> None:
        self._console, self._machine, self._tensorboard = console, machine, tensorboard

    def predicted(self, bill: Bill) -> None:
        m = self._machine
        rates = f"{m.fp32_gflops:.0f} GFLOP/s fp32, {m.bf16_gflops:.0f} bf16, measured"
        self._say(f"  predicted: {sentence(bill.predicted)}     (this machine: {m.threads} threads, {rates})")
        self._say("  ^C stops cleanly after the step, and --resume goes on\n")

    def stage_started(self, stage: str, steps: int) -> None:
        """The sink shows it from its first step on."""

    def sink(self, stage: str) -> Sink:
        console = ConsoleSink(self._console)
        return console if self._tensorboard is None else Both((console, TensorBoardSink(self._tensorboard / stage)))

    def stage_done(self, outcome: StageOutcome) -> None:
        self._say(f"    {outcome_words(outcome)}")

    def note(self, text: str) -> None:
        self._say(f"  · {text}")

    def _say(self, text: str) -> None:
        self._console.print(Text(visible(text)), soft_wrap=True)


class Both:
    """One sink made of several."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    def write(self, metrics: StepMetrics) -> None:
        for sink in self._sinks:
            sink.write(metrics)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()


def outcome_words(outcome: StageOutcome) -> str:
    """`pass@1 0.620 [0.590, 0.650] on 1,000 problems · 8.4 M tokens · 2.6e+14 FLOPs · 14:02`."""
    words = []
    if outcome.accuracy is not None:
        a = outcome.accuracy
        words.append(f"pass@1 {a['value']:.3f} [{a['low']:.3f}, {a['high']:.3f}] on {a['count']:,.0f} fresh problems")
    if outcome.lenient is not None:
        words.append(f"{outcome.lenient['value']:.3f} read leniently")
    if outcome.thinking_tokens is not None:
        words.append(f"{outcome.thinking_tokens:.0f} tokens of thinking")
    words += [f"{short_count(outcome.tokens)} tokens", f"{outcome.flops:.1e} FLOPs", clock_time(outcome.seconds)]
    return " · ".join(words)


def _report(console: Console, folder: Path) -> Path | None:
    try:
        return write_report(folder)
    except UserError as error:  # a run that took an hour does not fail for its picture
        console.print(Text(f"  · no report: {error}"), soft_wrap=True)
        return None


def _closing(console: Console, result: RunResult, report: Path | None) -> None:
    console.print()
    console.print(table(result.bill))
    console.print()
    me = program()
    if report is not None:
        console.print(Text(f"  report:  {report}"), soft_wrap=True)
    console.print(Text(f"  model:   {result.model}"), soft_wrap=True)
    console.print(Text(f"  Next:    {me} demo --model {result.model}"), soft_wrap=True)
