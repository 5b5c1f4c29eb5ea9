"""The problems of a measurement, fixed by task, version, difficulty and seed, with a hash that names them.

Not covered: what a task is (tasks/).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from raison.errors import UserError
from raison.records import Problem
from raison.tasks.catalog import load_task
from raison.tasks.jsonl import Jsonl
from raison.tasks.task import Task, checker_id
from raison.think.measure import held_out_problems

VERSIONED = re.compile(r"(.+)@([0-9]+)")


@dataclass(frozen=True, slots=True)
class ProblemSet:
    task: Task
    level: int | None
    """None where rows of every level count."""
    problems: tuple[Problem, ...]

    @property
    def sha256(self) -> str:
        """Over each problem's task, prompt, gold answer and what its checker needs, in order."""
        rows = [[p.task, p.prompt, p.gold, dict(p.meta)] for p in self.problems]
        text = json.dumps(rows, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def first(self, count: int) -> ProblemSet:
        return ProblemSet(self.task, self.level, self.problems[:count])


def task_at_version(word: str, checker: str | None = None, held_out: bool = True) -> Task:
    """A task by name, or by name and version as its checker says, such as `countdown@1`.

    Raises UserError where this installation has another version: figures of two versions do not compare.
    """
    match = VERSIONED.fullmatch(word)
    task = load_task(match[1] if match else word, held_out, checker)
    if match and task.version != int(match[2]):
        raise UserError(
            f"this installation has {checker_id(task)}, not {word}; figures of two versions do not compare: give "
            f"{checker_id(task)}, or install the release that has {word}"
        )
    return task


def draw(task: Task, level: int, count: int, seed: int) -> ProblemSet:
    """`count` different problems of the held-out side. Raises UserError where the task has none of that level."""
    levels: Sequence[int] = getattr(task, "levels", (level,))
    if level not in levels:
        raise UserError(f"{task.name} has no level {level}; its levels are {', '.join(map(str, levels))}")
    return ProblemSet(task, level, tuple(held_out_problems(task, level, count, seed)))


def whole_file(path: str, checker: str | None = None) -> ProblemSet:
    """Every row of a .jsonl file that is a test set as a whole, in its order. Raises UserError for other tasks."""
    if not path.endswith((".jsonl", ".json", ".ndjson")):
        raise UserError(f"{path} is no .jsonl file, and only a file can be taken as a whole; leave --whole out")
    task = Jsonl(path, checker, held_out=None)
    return ProblemSet(task, None, tuple(task.rows()))
