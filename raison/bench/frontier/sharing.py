"""Accuracy over thinking budgets and votes from one set of samples.

A sample has the noise of its seed and place, so that under a smaller budget it is the same sample up to there. One
whose thinking ended before is that very sample; only the others are drawn again. Votes are groups of the same samples.
Not covered: models that do not think, for which a budget cuts the answer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from raison.bench.accuracy import Sample, Sheet, judged
from raison.bench.answerers import Manner, engine_answers
from raison.bench.problem_set import ProblemSet
from raison.engine.engine import Engine
from raison.engine.sequence import SamplingParams, sample_seed
from raison.records import Problem
from raison.text import chat


@dataclass(frozen=True, slots=True)
class Shared:
    """Sheets by budget, and what a sampled token and a prompt took."""

    sheets: dict[int, Sheet]
    seconds_per_token: float
    """Of the engine at work on all problems at once, at the largest budget."""
    prompt_tokens: float
    drawn_again: float
    """Share of samples under smaller budgets that had to be drawn again."""


def over_budgets(engine: Engine, problems: ProblemSet, manner: Manner, budgets: Sequence[int]) -> Shared:
    """Every problem `manner.samples` times under each of the rising `budgets`."""
    largest = replace(manner, budget=budgets[-1])
    count = len(problems.problems)
    start = time.perf_counter()
    heard = engine_answers(engine, problems.problems, largest.params(count, thinks=True), manner.samples)
    seconds = time.perf_counter() - start
    whole = [
        [judged(problems.task, problem, one)[0] for one in said]
        for problem, said in zip(problems.problems, heard, strict=True)
    ]
    sheets, again = {budgets[-1]: whole}, 0
    for budget in reversed(budgets[:-1]):
        longer = sheets[min(sheets)]
        params = replace(manner, budget=budget).params(count, thinks=True)
        sheets[budget], redrawn = _shortened(engine, problems, longer, params, budget)
        again += redrawn
    tokens = sum(sample.tokens for row in whole for sample in row)
    prompts = [len(chat.prompt_ids(engine.tokenizer, problem.prompt)) for problem in problems.problems]
    shorter = max(1, count * manner.samples * (len(budgets) - 1))
    return Shared(sheets, seconds / max(1, tokens), sum(prompts) / count, again / shorter)


def _shortened(
    engine: Engine, problems: ProblemSet, longer: Sheet, params: Sequence[SamplingParams], budget: int
) -> tuple[Sheet, int]:
    """The sheet under a smaller budget, and how many of its samples were drawn for it."""
    cut = [
        (i, j) for i, row in enumerate(longer) for j, sample in enumerate(row) if sample.thinking_tokens >= budget
    ]  # fmt: skip
    asked: list[Problem] = [problems.problems[i] for i, _ in cut]
    seeded = [replace(params[i], seed=sample_seed(params[i].seed, j)) for i, j in cut]
    heard = engine_answers(engine, asked, seeded, n=1) if cut else []
    sheet: list[list[Sample]] = [list(row) for row in longer]
    for (i, j), (said,) in zip(cut, heard, strict=True):
        sheet[i][j] = judged(problems.task, problems.problems[i], said)[0]
    return sheet, len(cut)
