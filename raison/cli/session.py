"""What think, chat and demo share: a process made ready, a reasoner with its task, one problem solved aloud.

Not covered: what is asked and how often; measurements over many problems (think/measure.py).
"""

from __future__ import annotations

import math
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text

from raison.cli.loading import load_reasoner
from raison.cli.output import visible
from raison.engine.device import Device
from raison.errors import UserError
from raison.hardware import MOST_THREADS, available_cores, steady_memory
from raison.reasoner import Reasoner
from raison.records import Completion, Problem, Verdict
from raison.tasks.catalog import load_task
from raison.tasks.task import Task
from raison.tasks.user import ParsingTask

DEFAULT_TASK = "countdown"
INDENT = " " * 11
MOST_SAMPLES = 10_000
"""Of one problem; each is held until all have ended."""


def prepare(threads: int) -> int:
    """Set up this process for computing, once; returns the number of threads. 0 = all cores."""
    if not 0 <= threads <= MOST_THREADS:
        raise UserError(f"--threads is {threads}; give 0 for all cores, or a number of cores, {MOST_THREADS:,} at most")
    torch.set_num_threads(threads or available_cores())
    steady_memory()
    return torch.get_num_threads()


@dataclass(frozen=True)
class Asking:
    """How problems are put to the reasoner."""

    budget: int | None = 512
    n: int = 1
    temperature: float = 1.0
    seed: int = 0
    min_thinking: int = 0

    def __post_init__(self) -> None:
        for name, low in (("budget", 0), ("min_thinking", 0), ("n", 1), ("temperature", 0), ("seed", 0)):
            if (value := getattr(self, name)) is not None and not low <= value < math.inf:
                raise UserError(f"{name} is {value}; it must be at least {low}")
        if self.n > MOST_SAMPLES:
            raise UserError(f"n is {self.n}; it must be at most {MOST_SAMPLES:,}")

    def next(self) -> Asking:
        """The same with another seed, for the next problem."""
        return replace(self, seed=self.seed + 1)


def fresh_seed(given: int | None) -> int:
    """The seed that was asked for, or one that nobody knows."""
    return secrets.randbelow(2**31) if given is None else given


def each_line(console: Console, take: Callable[[str], None]) -> None:
    """What is typed or piped in, line by line, until /quit, the end of input, or ^C at the prompt.

    A UserError of `take` is shown and the next line read; so is ^C while it works.
    """
    while True:
        try:
            line = input("\n> " if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if line in ("/quit", "/q", "/exit"):
            return
        try:
            take(line)
        except UserError as error:
            console.print(f"  {visible(str(error))}", markup=False, soft_wrap=True)
        except KeyboardInterrupt:
            console.print("  stopped")


@dataclass(frozen=True)
class Solved:
    """A problem with its samples, judged; `best` is the first right one, or the first."""

    problem: Problem
    completions: tuple[Completion, ...]
    verdicts: tuple[Verdict, ...]
    seconds: float

    @property
    def best(self) -> int:
        return next((i for i, verdict in enumerate(self.verdicts) if verdict.correct), 0)

    @property
    def right(self) -> int:
        return sum(verdict.correct for verdict in self.verdicts)

    @property
    def tokens(self) -> int:
        return sum(len(completion.token_ids) for completion in self.completions)


def open_reasoner(
    console: Console, path: str | None, device: Device = "cpu", draft: str | None = None
) -> tuple[Reasoner, Task]:
    """A reasoner and the task that its provenance names. Raises CheckpointError, or UserError for an unknown task."""
    reasoner = load_reasoner(console, path, device, draft)
    task = load_task(task_name(reasoner), held_out=True)
    return reasoner, task


def task_name(reasoner: Reasoner) -> str:
    return str(reasoner.provenance.get("task", DEFAULT_TASK))


def parsing(task: Task) -> ParsingTask:
    """The same task, known to read what people type. Raises UserError where it does not."""
    if not hasattr(task, "parse"):
        raise UserError(f"problems of {task.name} cannot be typed; use a model of a task such as countdown")
    return task  # type: ignore[return-value]  # Parses is what the line above found


def solve(console: Console, reasoner: Reasoner, task: Task, problem: Problem, asking: Asking) -> Solved:
    """Think about one problem before the reader's eyes, check the answer, and say what it took."""
    solved = (
        _aloud(console, reasoner, task, problem, asking) if asking.n == 1 else _many(reasoner, task, problem, asking)
    )
    if asking.n > 1:
        completion = solved.completions[solved.best]
        show = _Thinking(console)
        show.add(completion.thinking)
        show.end()
    _answer_line(console, solved)
    return solved


def _aloud(console: Console, reasoner: Reasoner, task: Task, problem: Problem, asking: Asking) -> Solved:
    show = _Thinking(console)
    completion: Completion | None = None
    events = reasoner.stream(
        problem.prompt, budget=asking.budget, seed=asking.seed, temperature=asking.temperature,
        min_thinking=asking.min_thinking,
    )  # fmt: skip
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # products of one token are too small to share: threads would only wait for each other
    try:
        for event in events:
            if event.thinking and event.text:
                show.add(event.text)
            completion = event.finished or completion
    finally:
        torch.set_num_threads(threads)
        show.end()
    assert completion is not None, "a stream ends with its completion"
    return Solved(problem, (completion,), (task.check(problem, completion.answer),), completion.seconds)


def _many(reasoner: Reasoner, task: Task, problem: Problem, asking: Asking) -> Solved:
    completions = reasoner.generate(
        problem.prompt, budget=asking.budget, n=asking.n, seed=asking.seed, temperature=asking.temperature,
        min_thinking=asking.min_thinking,
    )  # fmt: skip
    verdicts = tuple(task.check(problem, completion.answer) for completion in completions)
    return Solved(problem, tuple(completions), verdicts, max(completion.seconds for completion in completions))


class _Thinking:
    """The thinking as it comes, dim, behind a bar at the left."""

    def __init__(self, console: Console) -> None:
        self._console, self._empty = console, True

    def add(self, text: str) -> None:
        start = "\n  [dim]thinking[/dim] ▏" if self._empty else ""
        if start:
            self._console.print(start, end="")
        self._empty = False
        body = visible(text).replace("\n", f"\n{INDENT}▏")
        self._console.print(Text(body, style="dim"), end="", soft_wrap=True)

    def end(self) -> None:
        self._console.print("\n  [dim]thinking[/dim] ▏none: it answered at once" if self._empty else "")


def _answer_line(console: Console, solved: Solved) -> None:
    verdict, completion = solved.verdicts[solved.best], solved.completions[solved.best]
    answer = " ".join(visible(completion.answer).split()) or "(none)"
    line = Text("  answer   ")
    line.append(answer, style="bold")
    mark = "✓ checked" if verdict.correct else f"✗ {verdict.reason}"
    line.append(f"   {mark}", style="green" if verdict.correct else "red")
    if solved.completions[1:]:
        line.append(f"   {solved.right} of {len(solved.completions)} samples right")
    if completion.forced_close:
        line.append("   thinking was cut at the budget")
    console.print(line, soft_wrap=True)
    console.print(Text(f"{INDENT}{effort(solved)}", style="dim"))


def effort(solved: Solved) -> str:
    """`41 tokens · 0.03 s · 1,370 tokens/s`."""
    seconds = max(solved.seconds, 1e-6)
    return f"{solved.tokens:,} tokens · {seconds:.2f} s · {solved.tokens / seconds:,.0f} tokens/s"


def program() -> str:
    """How this program can be called again from where the user stands."""
    called = Path(sys.argv[0])
    if called.name != "raison":
        return "python -m raison"
    return "raison" if shutil.which("raison") else os.path.relpath(called)
