"""The problems of a measurement, fixed by task, version, difficulty and seed, with a hash that names them.

Not covered: what a task is (tasks/).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from raison.errors import UserError
from raison.records import Problem
from raison.tasks.jsonl import Jsonl
from raison.tasks.task import Task
from raison.think.measure import held_out_problems


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
