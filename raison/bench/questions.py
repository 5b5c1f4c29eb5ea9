"""What a model is asked in benchmarks: fresh problems of its own task, where it has none questions of everyday life."""

from __future__ import annotations

from raison.reasoner import Reasoner
from raison.tasks.catalog import load_task
from raison.think.measure import held_out_problems, usual_level

QUESTIONS = (
    "What is the capital of France?", "Write the numbers from one to ten.", "Why is the sky blue?",
    "Name three fruits and say what colour each has.", "How do I boil an egg?", "What is 12 times 12?",
    "Tell me a short story about a fox.", "Repeat after me: the rain in Spain stays mainly in the plain.",
)  # fmt: skip


def questions_for(reasoner: Reasoner, count: int) -> list[str]:
    name = reasoner.provenance.get("task")
    if not isinstance(name, str):
        return [QUESTIONS[i % len(QUESTIONS)] for i in range(count)]
    task = load_task(name, held_out=True)
    level = usual_level(task, reasoner.provenance)
    return [problem.prompt for problem in held_out_problems(task, level, count, seed=0)]
