"""`raison demo`: the shipped reasoner at work, from its checker's audit to what thinking buys, in under a minute.

Problems are held out: no training ever drew one. Not covered: training (`raison run`).
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raison.cli.check import attack, summary
from raison.cli.output import bar_line, console_for, emit_json, visible
from raison.cli.session import Asking, Solved, fresh_seed, open_reasoner, parsing, prepare, program, solve
from raison.cli.spec import shape_words
from raison.cli.think import as_json
from raison.engine.engine import Engine
from raison.engine.settings import EngineSettings
from raison.errors import ProblemError, UserError
from raison.model.cost import parameters
from raison.reasoner import SHIPPED, Reasoner
from raison.records import Problem
from raison.tasks.task import Task
from raison.think.measure import Measurement, held_out_problems, measure, usual_level

ATTACKS = 10_000
BUDGETS = (0, 64, 128, 256, 512)
SAMPLES = 8
CACHE_TOKENS, MAX_BATCH = 1 << 17, 512
MEASURED_FROM = 2_000_000
"""Problems from this number on are measured; the one that is shown comes from before."""


def command(arguments: Namespace) -> int:
    if arguments.problems < 1:
        raise UserError(f"--problems is {arguments.problems}; it must be at least 1")
    Asking(seed=arguments.seed)  # its bounds hold here, too
    began = perf_counter()
    prepare(arguments.threads)
    console = console_for(arguments)
    reasoner, task = open_reasoner(console, arguments.model)
    console.print(Text(f"· {_introduce(reasoner, arguments.model is None)}"), soft_wrap=True)
    audit = attack(console, task, ATTACKS, arguments.seed)
    console.print(Text(f"· {summary(audit)}"))
    level = usual_level(task, reasoner.provenance)
    solved = _ask(console, reasoner, task, level)
    if solved is None:
        return 0
    problems = held_out_problems(task, level, arguments.problems, MEASURED_FROM + arguments.seed)
    results = _measure(console, _wide_engine(reasoner), task, problems, arguments.seed)
    _next_steps(console)
    if arguments.json:
        emit_json(
            {
                "parameters": parameters(reasoner.spec),
                "provenance": reasoner.provenance,
                "audit": {"checker": audit.checker, "tried": audit.tried, "paid": sum(audit.paid_by_family.values())},
                "problem": as_json(solved, Asking(seed=solved.completions[0].seed)),
                "problems": len(problems),
                "level": level,
                "budgets": [_result(m) for m in results],
                "seconds": perf_counter() - began,
            }
        )
    return 0


def _introduce(reasoner: Reasoner, shipped: bool) -> str:
    """One line: `shipped reasoner countdown-r1  2.1 M parameters, DeepSeek-V3 shape (MLA, ...), made by ...`."""
    name = f"shipped reasoner {SHIPPED.name}" if shipped else "reasoner"
    made = reasoner.provenance.get("recipe")
    stage = reasoner.provenance.get("outcome", {}).get("stage", "")
    by = f", made by recipes/{visible(made)}.toml, stage {visible(stage)}" if isinstance(made, str) else ""
    size = f"{parameters(reasoner.spec) / 1e6:.1f} M parameters"
    return f"{name}  {size}, DeepSeek-V3 shape ({shape_words(reasoner.spec)}){by}"


def _ask(console: Console, reasoner: Reasoner, task: Task, level: int) -> Solved | None:
    """Problems that the user types, as many as they like, or one that is drawn. None when they want no more."""
    asking = Asking(seed=fresh_seed(None))
    if not sys.stdin.isatty():
        return _solve(console, reasoner, task, _draw(task, level), asking)
    solved: Solved | None = None
    hint = "type a problem, such as 3 7 17 -> 38 · Enter: a random one · q: quit"
    while True:
        console.print(f"\n  [dim]{hint}[/dim]")
        try:
            line = console.input("  > ").strip()
        except EOFError:
            line = ""
        if line in ("q", "quit"):
            return None
        if not line and solved:
            return solved
        try:
            problem = parsing(task).parse(line) if line else _draw(task, level)
        except ProblemError as error:
            console.print(Text(f"  {visible(str(error))}"), soft_wrap=True)
            continue
        solved = _solve(console, reasoner, task, problem, asking)
        asking = asking.next()
        hint = "another one · Enter: go on to how thinking pays · q: quit"


def _draw(task: Task, level: int) -> Problem:
    return task.sample(fresh_seed(None) % MEASURED_FROM, level)


def _solve(console: Console, reasoner: Reasoner, task: Task, problem: Problem, asking: Asking) -> Solved:
    console.print(Text(f"\n  {visible(_question(problem))}", style="bold"))
    return solve(console, reasoner, task, problem, asking)


def _question(problem: Problem) -> str:
    """`Make 38 from 3, 7, 17`, or the prompt where the task asks something else."""
    numbers, target = problem.meta.get("numbers"), problem.meta.get("target")
    if isinstance(numbers, list) and target is not None:
        return f"Make {target} from {', '.join(map(str, numbers))}"
    return problem.prompt


def _wide_engine(reasoner: Reasoner) -> Engine:
    """An engine for many samples at once; in fp32, which on models of this size is as fast as bf16, and exact."""
    return Engine(reasoner.model, reasoner.tokenizer, EngineSettings(cache_tokens=CACHE_TOKENS, max_batch=MAX_BATCH))


def _measure(console: Console, engine: Engine, task: Task, problems: Sequence[Problem], seed: int) -> list[Measurement]:
    """Every budget in turn; the table fills as they end, or a line tells of each where there is no terminal."""
    console.print(f"\n  How thinking pays, on {len(problems)} fresh problems, each tried {SAMPLES} times")
    results: list[Measurement] = []
    with Live(_table(results), console=console, auto_refresh=False, transient=True) as live:
        live.refresh()
        for budget in BUDGETS:
            results.append(measure(engine, task, problems, budget, SAMPLES, 1.0, seed)[0])
            if console.is_terminal:
                live.update(_table(results), refresh=True)
            else:
                console.print(f"  · budget {budget}: {results[-1].seconds:.1f} s")
    console.print(_table(results))
    console.print(
        f"  {bar_line([m.pass_at_1.value for m in results])}  pass@1, from no thinking to {BUDGETS[-1]} tokens"
    )
    return results


def _table(results: Sequence[Measurement]) -> Table:
    """A column for each budget, empty while it is being measured."""
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    table.add_column("  thinking budget")
    for index, budget in enumerate(BUDGETS):
        table.add_column(f"{budget}{' …' if index == len(results) else ''}", justify="right")
    rows = {
        "pass@1": [f"{m.pass_at_1.value:.2f}" for m in results],
        "  95 % interval": [f"{m.pass_at_1.low:.2f}-{m.pass_at_1.high:.2f}" for m in results],
        f"best of {SAMPLES}, checked": [f"{m.best_of_n.value:.2f}" for m in results],
        "tokens per answer": [f"{m.tokens_per_problem / m.samples:.0f}" for m in results],
        "seconds in all": [f"{m.seconds:.1f}" for m in results],
    }
    for name, cells in rows.items():
        table.add_row(f"  {name}", *cells, *[""] * (len(BUDGETS) - len(cells)))
    return table


def _result(m: Measurement) -> dict[str, Any]:
    return {**asdict(m), "tokens_per_answer": m.tokens_per_problem / m.samples}


def _next_steps(console: Console) -> None:
    me = program()
    steps = (
        (f'{me} think "1 5 18 -> 72"', "one problem of your own"),
        (f"{me} chat", "one after the other"),
        (f"{me} run recipes/quick.toml", "the whole recipe in miniature, from random weights, in minutes"),
    )
    console.print()
    for index, (line, why) in enumerate(steps):
        console.print(Text(f"  {'Next:' if index == 0 else '     '} {line:<42} {why}"), soft_wrap=True)
