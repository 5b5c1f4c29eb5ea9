"""`raison bench think`: what each way of thinking reaches on fresh problems, and what it spends.

Every method really runs on the engine: the drives of all problems are interleaved, each problem's samples have the same
seeds under every method, so that methods compare in pairs. The first method named is the one the others are held
against; the difference in accuracy has an interval for pairs (intervals.py). The waiting of one user is timed apart:
one problem at a time, against a loop that draws one sample after the other on the same engine, as proxies in front of
an engine do.
Not covered: other people's servers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from raison.bench.intervals import paired_difference
from raison.engine.engine import Engine
from raison.engine.sequence import SamplingParams
from raison.records import Completion, Problem
from raison.tasks.task import Task
from raison.text import chat
from raison.think.budget import sampling
from raison.think.drive import drive
from raison.think.engine_sampler import SharedSteps
from raison.think.measure import Estimate, wilson
from raison.think.parse import Context, parse_strategy
from raison.think.strategy import Outcome

Note = Callable[[str], None]
SEQUENTIAL = "sequential"


@dataclass(frozen=True, slots=True)
class Trial:
    """What is asked: the same prompts and seeds for every method."""

    engine: Engine
    task: Task
    problems: tuple[Problem, ...]
    prompts: tuple[tuple[int, ...], ...]
    params: tuple[SamplingParams, ...]

    def first(self, count: int) -> Trial:
        return Trial(self.engine, self.task, self.problems[:count], self.prompts[:count], self.params[:count])

    def right(self, index: int, said: Completion | None) -> bool:
        return said is not None and self.task.check(self.problems[index], said.answer).correct


@dataclass(frozen=True, slots=True)
class Reached:
    """One method over all problems; tokens are every sampled one, those of cancelled branches included."""

    method: str
    accuracy: Estimate
    tokens: float
    samples: float
    seconds: float
    share: float
    """Its tokens over those of the first method."""
    difference: float
    low: float
    high: float
    """Its accuracy less the first method's, with a 95 % interval for pairs."""


def trial(engine: Engine, task: Task, problems: Sequence[Problem], budget: int, temperature: float, seed: int) -> Trial:
    """Problem i has a seed of its own; a model that does not think has the budget for its answer."""
    thinks = chat.thinks(engine.tokenizer)
    params = sampling(budget, temperature, seed, thinks).spread(len(problems))
    prompts = tuple(tuple(chat.prompt_ids(engine.tokenizer, problem.prompt)) for problem in problems)
    return Trial(engine, task, tuple(problems), prompts, tuple(params))


def bench_thinking(
    given: Trial, methods: Mapping[str, Mapping[str, Any]], note: Note = lambda text: None
) -> list[Reached]:
    """Each method, named, over all problems; the first is what the others are held against."""
    found: list[Reached] = []
    first: list[bool] = []
    for name, wish in methods.items():
        start = time.perf_counter()
        outcomes = asyncio.run(_all(given, wish))
        seconds = time.perf_counter() - start
        right = [given.right(i, outcome.completion) for i, outcome in enumerate(outcomes)]
        first = first or right
        found.append(_reached(name, outcomes, right, first, found, seconds))
        note(f"{name}: {found[-1].accuracy} with {found[-1].tokens:,.0f} tokens a problem in {seconds:.0f} s")
    return found


async def _all(given: Trial, wish: Mapping[str, Any]) -> list[Outcome]:
    steps = SharedSteps(given.engine)
    running = [_one(given, steps, index, wish) for index in range(len(given.problems))]
    return list(await asyncio.gather(*running))


async def _one(given: Trial, steps: SharedSteps, index: int, wish: Mapping[str, Any]) -> Outcome:
    def score(said: Completion) -> float:
        return float(given.right(index, said))

    params = given.params[index]
    context = Context(params.max_tokens, most_samples=1 << 10, score=score, checker=True)
    return await drive(parse_strategy(wish, context), steps.sampler(given.prompts[index], params))


def _reached(
    name: str, outcomes: Sequence[Outcome], right: Sequence[bool], first: Sequence[bool], found: Sequence[Reached],
    seconds: float,
) -> Reached:  # fmt: skip
    count = len(outcomes)
    tokens = sum(outcome.tokens for outcome in outcomes) / count
    samples = sum(len(outcome.branches) for outcome in outcomes) / count
    step = paired_difference(right, first)
    share = tokens / found[0].tokens if found else 1.0
    return Reached(name, wilson(sum(right), count), tokens, samples, seconds, share, step.value, step.low, step.high)


def bench_waiting(
    given: Trial, methods: Mapping[str, Mapping[str, Any]], samples: int, note: Note = lambda text: None
) -> dict[str, float]:
    """Mean seconds that a lone user waits for a problem, by method, and for `sequential`: that many samples in turn."""
    seconds = dict.fromkeys((SEQUENTIAL, *methods), 0.0)
    for index in range(len(given.problems)):
        start = time.perf_counter()
        for params in given.params[index].spread(samples):
            given.engine.generate([given.prompts[index]], params)
        seconds[SEQUENTIAL] += time.perf_counter() - start
        for name, wish in methods.items():
            start = time.perf_counter()
            asyncio.run(_one(given, SharedSteps(given.engine), index, wish))
            seconds[name] += time.perf_counter() - start
    for name, total in seconds.items():
        note(f"waiting, {name}: {total / len(given.problems):.3f} s a problem")
    return {name: total / len(given.problems) for name, total in seconds.items()}


def as_json(reached: Sequence[Reached]) -> list[dict[str, Any]]:
    return [asdict(one) for one in reached]
