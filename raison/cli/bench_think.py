"""`raison bench think`: ways of thinking side by side, or the effort levels of a model measured and kept.

Not covered: how methods are run and timed (bench/thinking.py), what an effort level is (think/effort.py).
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from raison.bench.thinking import SEQUENTIAL, Reached, Trial, as_json, bench_thinking, bench_waiting, trial
from raison.cli.loading import load_reasoner
from raison.cli.output import console_for, emit_json
from raison.cli.session import prepare, task_name
from raison.errors import UserError, nearest
from raison.reasoner import SHIPPED, Reasoner
from raison.records import Problem
from raison.tasks.catalog import load_task
from raison.tasks.task import Task
from raison.text.chat import thinks
from raison.think import effort
from raison.think.measure import Measurement, held_out_problems, over_budgets, usual_level
from raison.think.parse import VOTES
from raison.weights import folder
from raison.weights.place import locate

Wishes = dict[str, dict[str, Any]]


def command(arguments: Namespace) -> int:
    _check(arguments)
    prepare(arguments.threads)
    console = console_for(arguments)
    reasoner = load_reasoner(console, arguments.model)
    task = load_task(arguments.task or task_name(reasoner), held_out=True)
    level = usual_level(task, reasoner.provenance) if arguments.level is None else arguments.level
    problems = held_out_problems(task, level, arguments.problems, arguments.seed)
    if arguments.efforts:
        return _efforts(console, reasoner, task, problems, arguments)
    given = trial(reasoner.engine, task, problems, arguments.budget, arguments.temperature, arguments.seed)
    result = {
        "model": str(arguments.model or "shipped"), "task": task.name, "level": level, "problems": len(problems),
        "samples": arguments.samples, "budget": arguments.budget, "temperature": arguments.temperature,
        "seed": arguments.seed, **_compare(console, given, arguments),
    }  # fmt: skip
    if arguments.json:
        emit_json(result)
    return 0


def _compare(console: Console, given: Trial, arguments: Namespace) -> dict[str, Any]:
    wishes = methods(arguments.methods, arguments.samples)
    console.print(Text(f"· {len(given.problems)} problems, each method on all of them at once"))

    def note(text: str) -> None:
        console.print(Text(f"· {text}"), soft_wrap=True)

    reached = bench_thinking(given, wishes, note)
    console.print(table(reached))
    found: dict[str, Any] = {"methods": as_json(reached)}
    if arguments.waits:
        some = given.first(arguments.waits)
        waits = bench_waiting(some, wishes, arguments.samples, note)
        found["waiting"] = {"seconds": waits, "times": {name: waits[SEQUENTIAL] / s for name, s in waits.items()}}
    return found


def _efforts(
    console: Console, reasoner: Reasoner, task: Task, problems: Sequence[Problem], arguments: Namespace
) -> int:
    """Accuracy over doubling budgets, and the levels that follow, kept in the model's folder."""
    if not thinks(reasoner.tokenizer):
        raise UserError("this model does not think; it has no effort levels to measure")
    place = locate(arguments.model) if arguments.model else SHIPPED
    if not place.is_dir():
        raise UserError(f"{place} is no folder, so that nothing can be kept with it; raison export --to hf makes one")
    budgets = [0, *(2**k for k in range(3, 20) if 2**k < arguments.budget), arguments.budget]

    def note(found: Measurement) -> None:
        console.print(Text(f"· budget {found.budget:>5}  pass@1 {found.pass_at_1}"))

    curve = over_budgets(
        reasoner.engine, task, problems, budgets, arguments.temperature, arguments.seed, on_each=note
    )  # fmt: skip
    kept = effort.provenance_of([(found.budget, found.pass_at_1.value) for found in curve])
    folder.annotate(place, kept)
    console.print(Text("  " + "  ".join(f"{name} {budget}" for name, budget in kept[effort.KEY].items())))
    console.print(Text(f"  kept in {place}"), soft_wrap=True)
    if arguments.json:
        emit_json({"model": str(arguments.model or "shipped"), "problems": len(problems), **kept})
    return 0


def methods(text: str, samples: int) -> Wishes:
    """Names, each with its number of samples. Raises UserError for one that is not known."""
    found: Wishes = {}
    for name in (word.strip() for word in text.split(",") if word.strip()):
        if name not in VOTES:
            raise UserError(f'there is no way of thinking "{name}": {nearest(name, VOTES)}')
        found[name] = {"vote": name, ("paths" if "paths" in VOTES[name].fields else "max_samples"): samples}
    if not found:
        raise UserError("--methods is empty; name some, such as self-consistency,auto")
    return found


def table(reached: Sequence[Reached]) -> Table:
    shown = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    for name in ("method", "accuracy", "difference", "tokens", "share", "samples", "seconds"):
        shown.add_column(name, justify="left" if name == "method" else "right")
    for one in reached:
        mark = " *" if VOTES[one.method].judged else ""
        difference = f"{one.difference:+.3f} [{one.low:+.3f}, {one.high:+.3f}]" if one is not reached[0] else ""
        shown.add_row(
            one.method + mark, str(one.accuracy), difference, f"{one.tokens:,.0f}", f"{one.share:.0%}",
            f"{one.samples:.1f}", f"{one.seconds:.0f}",
        )  # fmt: skip
    shown.caption = "* uses the checker, and compares with no vote"
    return shown


def _check(arguments: Namespace) -> None:
    for name, low in (("problems", 1), ("samples", 1), ("budget", 0), ("seed", 0), ("waits", 0), ("temperature", 0)):
        if getattr(arguments, name) < low:
            raise UserError(f"--{name} is {getattr(arguments, name)}; it must be at least {low}")
