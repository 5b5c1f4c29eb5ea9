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
from raison.errors import UserError
from raison.records import Completion, Verdict


def command(arguments: Namespace) -> int:
    refuse_unheeded(arguments)
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


def refuse_unheeded(arguments: Namespace) -> None:
    """Raises UserError for an option that was given and that this way of thinking would not heed."""
    remote, votes = bool(arguments.endpoint), bool(arguments.strategy or arguments.endpoint)
    for unheeded, option, mend in (
        (not votes and arguments.samples is not None, "--samples", "add --strategy auto, or say --n"),
        (not votes and arguments.set, "--set", "add --strategy, whose settings these are"),
        (votes and arguments.n != 1, "--n", "a strategy draws --samples at most"),
        (not remote and arguments.task, "--task", "a model names its own task; this is for --endpoint"),
        (not remote and arguments.key_env, "--key-env", "it is for --endpoint"),
        (remote and arguments.draft, "--draft", "an endpoint guesses by itself"),
        (remote and arguments.device != "cpu", "--device", "an endpoint computes elsewhere"),
        (remote and arguments.min_thinking, "--min-thinking", "an endpoint is not asked for it"),
    ):
        if unheeded:
            raise UserError(f"{option} would not be heeded here: {mend}")


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
