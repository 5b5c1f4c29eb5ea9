"""`raison think "3 7 17 -> 38"`: one problem, thought about aloud and checked. Exit code 0 right, 1 wrong.

Not covered: how it is shown (session.py), strategies (strategies.py).
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from typing import Any

from raison.cli import strategies
from raison.cli.output import console_for, emit_json
from raison.cli.session import Asking, Solved, fresh_seed, open_reasoner, parsing, prepare, solve
from raison.records import Completion, Verdict


def command(arguments: Namespace) -> int:
    if arguments.strategy or arguments.endpoint:
        return strategies.command(arguments)
    seed = fresh_seed(arguments.seed)
    asking = Asking(arguments.budget, arguments.n, arguments.temperature, seed, arguments.min_thinking)
    prepare(arguments.threads)
    console = console_for(arguments)
    reasoner, task = open_reasoner(console, arguments.model, arguments.device, arguments.draft)
    if arguments.effort:
        asking = replace(asking, budget=reasoner.budget_of(arguments.effort))
    problem = parsing(task).parse(arguments.problem)
    solved = solve(console, reasoner, task, problem, asking)
    if arguments.seed is None:
        console.print(f"           [dim]seed {asking.seed}[/dim]")
    if arguments.json:
        emit_json(as_json(solved, asking))
    return 0 if solved.right else 1


def as_json(solved: Solved, asking: Asking) -> dict[str, Any]:
    """The best sample at the top, all of them below it."""
    pairs = list(zip(solved.completions, solved.verdicts, strict=True))
    return {
        "task": solved.problem.task,
        "problem": solved.problem.prompt,
        **_sample(*pairs[solved.best]),
        "right": solved.right,
        "n": asking.n,
        "budget": asking.budget,
        "temperature": asking.temperature,
        "seed": asking.seed,
        "tokens": solved.tokens,
        "seconds": solved.seconds,
        "tokens_per_second": solved.tokens / max(solved.seconds, 1e-6),
        "samples": [_sample(*pair) for pair in pairs],
    }


def _sample(completion: Completion, verdict: Verdict) -> dict[str, Any]:
    return {
        "correct": verdict.correct,
        "reason": verdict.reason,
        "checker": verdict.checker,
        "thinking": completion.thinking,
        "answer": completion.answer,
        "thinking_tokens": completion.thinking_tokens,
        "answer_tokens": completion.answer_tokens,
        "forced_close": completion.forced_close,
        "finish_reason": completion.finish_reason,
    }
