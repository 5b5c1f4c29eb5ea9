"""`raison grade TASK "PROBLEM" "ANSWER"`: exit code 0 right, 1 wrong, 2 malformed problem.

Starts in a blink: neither torch nor rich is imported. Not covered: many answers at once (`load_task(name).check`).
"""

from __future__ import annotations

import json
from argparse import Namespace

from raison.errors import UserError
from raison.records import Verdict
from raison.tasks.catalog import load_task
from raison.tasks.task import Parses, Task


def command(arguments: Namespace) -> int:
    task = load_task(arguments.task, checker=arguments.checker)
    try:
        verdict = grade(task, arguments.problem, arguments.answer)
    finally:
        if close := getattr(task, "close", None):
            close()
    if arguments.json:
        found = {"correct": verdict.correct, "reason": verdict.reason, "checker": verdict.checker}
        print(json.dumps(found if verdict.lenient is None else found | {"lenient": verdict.lenient}))
    else:
        print(f"{'✓ right' if verdict.correct else '✗ wrong'}: {verdict.reason}  ({verdict.checker})")
    return 0 if verdict.correct else 1


def grade(task: Task, problem: str, answer: str) -> Verdict:
    """The task's verdict on `answer`. Raises ProblemError for a malformed problem, UserError for a task of a file."""
    if not isinstance(task, Parses):
        raise UserError(f"problems of {task.name} cannot be typed; name a task such as countdown or arithmetic")
    return task.check(task.parse(problem), answer)
