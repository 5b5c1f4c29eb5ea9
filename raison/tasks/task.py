"""The protocol a user implements to bring a task, and the two optional abilities that some stages ask for.

Not covered: how tasks are found by name (catalog.py) or attacked (audit.py).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from raison.records import Demonstration, Problem, Verdict


@runtime_checkable
class Task(Protocol):
    """Problems whose answers can be checked. `check` must be pure, exact and fast: it is the whole reward."""

    name: str
    version: int

    def sample(self, seed: int, level: int) -> Problem:
        """The problem number `seed` of difficulty `level`; the same arguments give the same problem, always."""
        ...

    def check(self, problem: Problem, answer: str) -> Verdict:
        """Judge the text after `</think>`. Never raises for any string; a malformed answer is a Verdict, not an
        error.
        """
        ...


@runtime_checkable
class Parses(Protocol):
    """A task whose problems a person can type."""

    def parse(self, text: str) -> Problem:
        """Raises ProblemError, naming what is wrong, when the text is malformed or the problem has no solution."""
        ...


@runtime_checkable
class Demonstrates(Protocol):
    """A task with a solver that can write its search down: the source of the cold start."""

    def demonstrate(self, problem: Problem, seed: int) -> Demonstration:
        """One worked solution; another seed gives another order of trying."""
        ...


@runtime_checkable
class Documents(Protocol):
    """A task with plain text to pre-train on."""

    def document(self, seed: int) -> str:
        """The pre-training document number `seed`."""
        ...


def checker_id(task: Task) -> str:
    """Name and version of a task's checker, as written into every Verdict and log: `countdown@1`."""
    return f"{task.name}@{task.version}"
