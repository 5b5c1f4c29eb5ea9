"""A user's own Python as a checker or a task, always run through sandbox.py.

A checker is `def name(problem, answer)`, where `problem["prompt"]`, `problem["gold"]` and `problem["meta"]` (or the
same as attributes) are there to read, and which returns True, False, None (no verdict) or a number from 0 to 1. Rewards
are binary: only 1 is right. A task is a class, an object or a function without required parameters that gives an object
with `sample(seed, level)` and `check(problem, answer)`, as in task.py; problems may be `raison.records.Problem`s or
dicts.
Not covered: demonstrations and documents of a user's task, which do not cross the process boundary.
"""

from __future__ import annotations

from typing import Any, Protocol

from raison.errors import CheckerError
from raison.records import Problem, Verdict
from raison.tasks.sandbox import Limits, Sandbox
from raison.tasks.task import Parses, Task, checker_id


class ParsingTask(Task, Parses, Protocol):
    """A task whose problems a person can type."""


class UserChecker:
    """`path/to/file.py:function` as a callable of problem and answer. Raises CheckerError where the function fails."""

    def __init__(self, target: str, limits: Limits | None = None) -> None:
        self._sandbox = Sandbox(target, limits)
        about = self._sandbox.describe()
        if about["kind"] != "check":
            self.close()
            raise CheckerError(f"{target} is a task where a checker was expected: give a function (problem, answer)")
        self.name = str(about["name"])
        self.version = int(about["version"])

    def __call__(self, problem: Problem, answer: str) -> Verdict:
        return _verdict(self._sandbox, problem, answer, f"{self.name}@{self.version}")

    def close(self) -> None:
        self._sandbox.close()


class CheckedBy:
    """The problems of a built-in task judged by a user's checker. Implements Task and Parses."""

    def __init__(self, base: ParsingTask, checker: UserChecker) -> None:
        self._base = base
        self._checker = checker
        self.name, self.version = checker.name, checker.version
        self.levels: tuple[int, ...] = getattr(base, "levels", (1,))

    def sample(self, seed: int, level: int) -> Problem:
        return self._base.sample(seed, level)

    def parse(self, text: str) -> Problem:
        return self._base.parse(text)

    def check(self, problem: Problem, answer: str) -> Verdict:
        return self._checker(problem, answer)

    def close(self) -> None:
        self._checker.close()


class UserTask:
    """`path/to/file.py:Name`, a class or factory, as a Task. Raises CheckerError where its code fails."""

    def __init__(self, target: str, held_out: bool = False, limits: Limits | None = None) -> None:
        """`held_out` reaches the user's class when its constructor takes it."""
        self._sandbox = Sandbox(target, limits, {"held_out": held_out})
        about = self._sandbox.describe()
        if about["kind"] != "task":
            self.close()
            raise CheckerError(f"{target} is a checker where a task was expected: give a class with sample and check")
        self.name, self.version = str(about["name"]), int(about["version"])
        self.levels: tuple[int, ...] = tuple(about["levels"])

    def sample(self, seed: int, level: int) -> Problem:
        made = self._sandbox.call("sample", [seed, level])
        return Problem(self.name, made["prompt"], made["gold"], made["meta"])

    def check(self, problem: Problem, answer: str) -> Verdict:
        return _verdict(self._sandbox, problem, answer, checker_id(self))

    def close(self) -> None:
        self._sandbox.close()


def _verdict(sandbox: Sandbox, problem: Problem, answer: str, checker: str) -> Verdict:
    view: dict[str, Any] = {"prompt": problem.prompt, "gold": problem.gold, "meta": dict(problem.meta)}
    correct, reason = sandbox.call("check", [view, answer])
    return Verdict(bool(correct), str(reason), checker)
