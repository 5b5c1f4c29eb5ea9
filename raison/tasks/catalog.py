"""Tasks by name or path: what `raison check`, `raison grade` and a recipe's `task =` accept.

`countdown` and `arithmetic` are built in. A path that ends in `.jsonl` is a file of problems, files of GSM8K and SVAMP
included (jsonl.py). `gym:NAME` is a data set of reasoning-gym (gym.py). `path/to/file.py:Name` is a user's task, or a
check function, which is then tried on Countdown's problems (user.py). Both of the latter run foreign Python in the
sandbox. A version may stand behind a name, as its checker says it: `countdown@1`.
Not covered: tasks that need a network.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from raison.errors import UserError, nearest
from raison.tasks.arithmetic import Arithmetic
from raison.tasks.countdown import Countdown
from raison.tasks.gym import PREFIX, Gym
from raison.tasks.jsonl import Jsonl
from raison.tasks.sandbox import Sandbox
from raison.tasks.task import Task, checker_id
from raison.tasks.user import CheckedBy, ParsingTask, UserChecker, UserTask

BUILT_IN: dict[str, Callable[[bool], ParsingTask]] = {"arithmetic": Arithmetic, "countdown": Countdown}
VERSIONED = re.compile(r"(.+)@([0-9]+)")


def load_task(name: str, held_out: bool = False, checker: str | None = None) -> Task:
    """The task of that name or path, on the training or the held-out side of its split.

    `checker` names the checker of a JSONL file, or puts a user's `file.py:function` in place of a built-in task's own
    checker. Raises UserError for a name that is not known, or where this installation has another version of it
    (figures of two versions do not compare), and CheckerError for Python that cannot be used. Where the task has a
    `close` method, call it when done to end its subprocess (it also ends with the object).
    """
    match = VERSIONED.fullmatch(name)
    task = _load(match[1] if match else name, held_out, checker)
    if match and task.version != int(match[2]):
        raise UserError(
            f"this installation has {checker_id(task)}, not {name}; figures of two versions do not compare: give "
            f"{checker_id(task)}, or install the release that has {name}"
        )
    return task


def _load(name: str, held_out: bool, checker: str | None) -> Task:
    if name.endswith((".jsonl", ".json", ".ndjson")):
        return Jsonl(name, checker, held_out)
    if name.startswith(PREFIX):
        if checker:
            raise UserError(f"{name} is judged by its own scorer: leave the checker {checker} out")
        return Gym(name.removeprefix(PREFIX), held_out)
    if ".py:" in name:
        return _from_python(name, held_out)
    if name.endswith(".py"):
        raise UserError(f"{name} is a file: name what to use in it, as in {name}:check")
    if name not in BUILT_IN:
        raise UserError(
            f'there is no task "{name}": {nearest(name, BUILT_IN)}; a .jsonl file, gym:NAME or file.py:Name will do'
        )
    task = BUILT_IN[name](held_out)
    return CheckedBy(task, UserChecker(checker)) if checker else task


def _from_python(target: str, held_out: bool) -> Task:
    with Sandbox(target, options={"held_out": held_out}) as sandbox:
        kind = sandbox.describe()["kind"]
    if kind == "task":
        return UserTask(target, held_out)
    return CheckedBy(Countdown(held_out), UserChecker(target))
