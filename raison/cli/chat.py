"""`raison chat`: problems typed one after the other, or piped in, one a line; or a talk.

A model with a task solves problems, each by itself, since it was trained on single questions. A model without one talks
and remembers (talk.py). ^C ends the thinking, and at the prompt the chat.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from rich.console import Console

from raison.cli.loading import load_reasoner
from raison.cli.output import console_for
from raison.cli.session import Asking, each_line, fresh_seed, parsing, prepare, solve, task_name
from raison.cli.talk import Talk
from raison.errors import UserError, nearest
from raison.reasoner import Reasoner
from raison.tasks.catalog import load_task
from raison.tasks.user import ParsingTask

HELP = """\
  type a problem, such as 3 7 17 -> 38
  /budget N        thinking tokens (0 = answer at once)
  /n N             samples of each problem; the first right one is shown
  /seed N          start again from this seed
  /temperature T   0 = the likeliest token each time
  /quit            leave (^D does too)"""
SETTINGS: dict[str, Callable[[str], Any]] = {"budget": int, "n": int, "seed": int, "temperature": float}


def command(arguments: Namespace) -> int:
    seed = fresh_seed(arguments.seed)
    asking = Asking(arguments.budget, arguments.n, arguments.temperature, seed, arguments.min_thinking)
    prepare(arguments.threads)
    console = console_for(arguments)
    reasoner = load_reasoner(console, arguments.model, arguments.device, arguments.draft)
    if sys.stdin.isatty():
        with suppress(ImportError):
            import readline  # noqa: F401  # optional: its import gives input() a history; absent on some systems
    if "task" not in reasoner.provenance:
        Talk(console, reasoner, asking).run()
        return 0
    if sys.stdin.isatty():
        console.print(
            f"  {task_name(reasoner)}, budget {asking.budget}, seed {asking.seed}; /help tells more", markup=False
        )
    task = load_task(task_name(reasoner), held_out=True)
    Chat(console, reasoner, parsing(task), asking).run()
    return 0


class Chat:
    """The loop and what it may change between two problems."""

    def __init__(self, console: Console, reasoner: Reasoner, task: ParsingTask, asking: Asking) -> None:
        self.console, self.reasoner, self.task, self.asking = console, reasoner, task, asking

    def run(self) -> None:
        """Until /quit, the end of input, or ^C at the prompt."""
        each_line(self.console, self.take)

    def take(self, line: str) -> None:
        """One line: a setting, or a problem to solve. Raises UserError for what is neither."""
        if line.startswith("/"):
            self._set(line[1:])
        elif line:
            problem = self.task.parse(line)
            if not sys.stdin.isatty():
                self.console.print(f"\n  {problem.prompt}", markup=False)
            solve(self.console, self.reasoner, self.task, problem, self.asking)
            self.asking = self.asking.next()

    def _set(self, words: str) -> None:
        name, _, value = words.partition(" ")
        if name in ("help", "h", "?", ""):
            self.console.print(HELP, markup=False)
            return
        if name not in SETTINGS:
            raise UserError(f"there is no setting /{name}: {nearest(name, [*SETTINGS, 'help', 'quit'])}")
        try:
            self.asking = replace(self.asking, **{name: SETTINGS[name](value)})
        except UserError:
            raise
        except ValueError:
            raise UserError(f"/{name} needs a number, as in /{name} {getattr(self.asking, name)}") from None
        self.console.print(f"  {name} {getattr(self.asking, name)}")
