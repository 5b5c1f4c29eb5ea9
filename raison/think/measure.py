"""How thinking pays: accuracy over budgets and over samples, with intervals, tokens and seconds.

Intervals are Wilson's score intervals at 95 % (Wilson 1927). pass@1 is the mean over problems of one sample each;
best of n counts a problem as solved when the checker accepts any of n samples, which is what a user with a checker
gets. The unbiased estimator of pass@k is Chen et al. 2021 (arXiv 2107.03374), eq. 1. Not covered: votes without a
checker.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raison.records import Completion, Problem, Verdict
from raison.tasks.task import Task
from raison.text import chat
from raison.think.budget import sampling

if TYPE_CHECKING:
    from raison.engine.engine import Engine

Z95 = 1.959964
LEVEL = 3
"""Where the model does not tell; for Countdown, how many numbers."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured share with its 95 % interval."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def wilson(successes: float, count: float) -> Estimate:
    """The share of `successes` in `count` trials with Wilson's 95 % interval. Raises ValueError without trials.

    Neither need be whole: an effective sample size is not.
    """
    if count < 1:
        raise ValueError("an estimate needs at least one trial")
    share = successes / count
    centre = (share + Z95**2 / (2 * count)) / (1 + Z95**2 / count)
    half = Z95 / (1 + Z95**2 / count) * math.sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2))
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half), int(count))


def pass_at_k(samples: int, right: int, k: int) -> float:
    """1 - C(n-c, k) / C(n, k): the chance that one of k of the n samples, c of them right, is right."""
    assert 0 <= right <= samples and 1 <= k <= samples
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One problem with its samples, judged."""

    problem: Problem
    completions: tuple[Completion, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def right(self) -> int:
        return sum(verdict.correct for verdict in self.verdicts)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One setting's result over all problems."""

    budget: int
    samples: int
    pass_at_1: Estimate
    lenient: Estimate | None
    """pass@1 by the checker's second, forgiving reading; None where it has one reading only."""
    best_of_n: Estimate
    thinking_tokens: float
    """Mean over samples."""
    tokens_per_problem: float
    """All sampled tokens of a problem, thinking and answers of every sample."""
    closed_share: float
    """Share of samples whose thinking was cut by the budget."""
    seconds: float


def attempt_all(
    engine: Engine, task: Task, problems: Sequence[Problem], budget: int, samples: int, temperature: float, seed: int
) -> list[Attempt]:
    """Sample every problem; a model that does not think has the budget for its answer.

    A sample has the same seed whatever the budget, so budgets compare in pairs.
    """
    prompts = [chat.prompt_ids(engine.tokenizer, problem.prompt) for problem in problems]
    thinks = chat.thinks(engine.tokenizer)
    params = [sampling(budget, temperature, seed + i, thinks) for i in range(len(problems))]
    groups = engine.generate(prompts, params, n=samples)
    return [
        Attempt(problem, tuple(group), tuple(task.check(problem, c.answer) for c in group))
        for problem, group in zip(problems, groups, strict=True)
    ]


def summarise(attempts: Sequence[Attempt], budget: int, seconds: float) -> Measurement:
    """pass@1 over first samples, best of n over all."""
    completions = [c for attempt in attempts for c in attempt.completions]
    firsts = [attempt.verdicts[0] for attempt in attempts]
    return Measurement(
        budget=budget,
        samples=len(attempts[0].completions),
        pass_at_1=wilson(sum(first.correct for first in firsts), len(attempts)),
        lenient=None if firsts[0].lenient is None else wilson(sum(bool(v.lenient) for v in firsts), len(attempts)),
        best_of_n=wilson(sum(a.right > 0 for a in attempts), len(attempts)),
        thinking_tokens=sum(c.thinking_tokens for c in completions) / len(completions),
        tokens_per_problem=sum(len(c.token_ids) for c in completions) / len(attempts),
        closed_share=sum(c.forced_close for c in completions) / len(completions),
        seconds=seconds,
    )


def measure(
    engine: Engine, task: Task, problems: Sequence[Problem], budget: int, samples: int, temperature: float, seed: int
) -> tuple[Measurement, list[Attempt]]:
    """Attempt all and summarise, timed."""
    start = time.perf_counter()
    attempts = attempt_all(engine, task, problems, budget, samples, temperature, seed)
    return summarise(attempts, budget, time.perf_counter() - start), attempts


def over_budgets(
    engine: Engine, task: Task, problems: Sequence[Problem], budgets: Sequence[int], temperature: float, seed: int,
    on_each: Callable[[Measurement], None] = lambda m: None,
) -> list[Measurement]:  # fmt: skip
    """pass@1 at each thinking budget; 0 answers at once."""
    results = []
    for budget in budgets:
        results.append(measure(engine, task, problems, budget, 1, temperature, seed)[0])
        on_each(results[-1])
    return results


def over_votes(attempts: Sequence[Attempt], votes: Sequence[int]) -> dict[int, Estimate]:
    """Best of k for each k from attempts with at least so many samples, by the unbiased estimator."""
    most = len(attempts[0].verdicts)
    return {k: wilson(sum(pass_at_k(most, a.right, k) for a in attempts), len(attempts)) for k in votes if k <= most}


def usual_level(task: Task, provenance: Mapping[str, Any]) -> int:
    """The level to show a model at: what its provenance tells, if the task has it, else the task's first."""
    levels: Sequence[int] = getattr(task, "levels", (LEVEL,))
    wanted = provenance.get("level", LEVEL)
    return wanted if wanted in levels else levels[0]


def held_out_problems(task: Task, level: int, count: int, seed: int) -> list[Problem]:
    """`count` different problems of a task that was loaded for its held-out side."""
    found: dict[str, Problem] = {}
    number = seed
    while len(found) < count and number < seed + 50 * count:
        problem = task.sample(number, level)
        found.setdefault(problem.id, problem)
        number += 1
    return list(found.values())
