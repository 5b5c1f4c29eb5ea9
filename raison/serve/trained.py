"""What the served model was trained to solve, with a few problems to try: for a page that greets, and for clients.

Only built-in tasks are asked for problems: the name comes with the weights, and other tasks may run Python. Not
covered: whether an answer is right (tasks).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raison.tasks.catalog import BUILT_IN
from raison.think.measure import held_out_problems, usual_level

EXAMPLES = 4


def trained_for(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """`task` by name, None where the model has none; `examples`, held-out prompts as it was trained to read them."""
    name = provenance.get("task")
    if not isinstance(name, str):
        return {"task": None, "examples": []}
    if name not in BUILT_IN:
        return {"task": name, "examples": []}
    task = BUILT_IN[name](True)
    problems = held_out_problems(task, usual_level(task, provenance), EXAMPLES, seed=0)
    return {"task": name, "examples": [problem.prompt for problem in problems]}
