"""Reinforcement learning's bill: rollouts at the speed of serving, scores of the old policy and a reference, updates.

A round of GRPO samples answers, reads them twice without gradients, then trains on them (Shao et al.,
arXiv:2402.03300, algorithm 1). Sampling is as slow as the slower of two: all tokens at the chips' throughput, or the
longest answer, token after token, where a round waits for it. The second is what made R1-Zero's rounds long: 8,192
answers on 512 chips, the longest of 32,768 tokens and more. Not covered: how fast tokens are (rl_sampling.py asks the
serving model), what is learnt (laws.py), rewards that need a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from raison.errors import UserError
from raison.plan.interval import Interval
from raison.plan.shape import Shape
from raison.plan.training import Bill, forward, full_speed_seconds, priced, work
from raison.plan.utilization import Case, Utilization

SCORES = 2
"""Forward passes over every answer: the old policy's log-probabilities and the reference's."""
WAITING = Interval(1.0, 1.2, 2.0)
"""Wall time over computing: weights handed over, rewards, uneven chips. An assumption; R1-Zero's and DeepScaleR's hours
lie within it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is sampled and trained on."""

    steps: float
    answers: float
    """Of a step: prompts x samples."""
    mean_tokens: float
    """Of an answer."""
    longest: tuple[tuple[float, float], ...]
    """(share of the rounds, limit in tokens of an answer)."""
    round: float
    """Answers sampled at once, of one step or of several."""
    prompt: float = 256.0
    waits: bool = True
    """Whether a round waits for its longest answer; asynchronous rollouts do not."""

    def __post_init__(self) -> None:
        for name in ("steps", "answers", "mean_tokens", "round", "prompt"):
            if not 0 < getattr(self, name) < inf:
                raise UserError(f"{name.replace('_', ' ')} of the recipe must be above 0, not {getattr(self, name):g}")
        if any(limit < self.mean_tokens for _, limit in self.longest):
            raise UserError("the longest answer is shorter than the mean one")

    @property
    def tokens(self) -> float:
        """Sampled over the whole run."""
        return self.steps * self.answers * self.mean_tokens

    @property
    def rounds(self) -> float:
        return self.steps * self.answers / self.round


@dataclass(frozen=True, slots=True)
class Sampling:
    """How fast the chips sample, from the serving model."""

    tokens_a_chip: Interval
    """Tokens/s of a chip at the round's batch."""
    tpot: Interval
    """Seconds between two tokens of one answer at that batch, where the last answers have the chips to themselves."""


@dataclass(frozen=True, slots=True)
class RlBill:
    """What a run costs; hours are wall time on all chips."""

    sampling: Interval
    scoring: Interval
    updates: Interval
    bound: str
    """What sampling waits for: "throughput" or "the longest answer"."""
    bill: Bill


def recipe_of(published: Mapping[str, Any]) -> Recipe:
    """A published run's recipe (published_runs.known_recipe)."""
    longest = tuple((float(share), float(limit)) for share, limit in published["longest"])
    return Recipe(published["steps"], published["prompts"] * published["samples"], published["mean_tokens"], longest,
                  published["per_round"])  # fmt: skip


def rl_bill(
    recipe: Recipe, shape: Shape, case: Case, law: Utilization, sampling: Sampling, usd_per_hour: float | None = None
) -> RlBill:
    """The bill of a run on `case.chips` chips. UserError where their number is open."""
    if not case.chips:
        raise UserError("how long rollouts take depends on the number of chips: give --chips")
    length = recipe.prompt + recipe.mean_tokens
    read, update = forward(shape, length), work(shape, length)
    share, tokens = law.predict(case), recipe.tokens * length / recipe.mean_tokens
    hour = 3600 * case.chips
    throughput = recipe.tokens / hour / sampling.tokens_a_chip
    tail = sum(part * limit for part, limit in recipe.longest) * recipe.rounds / 3600 * sampling.tpot
    slower = tail if recipe.waits and tail.mid > throughput.mid else throughput
    scoring = SCORES * full_speed_seconds(read, tokens, case) / hour / share
    updates = full_speed_seconds(update, tokens, case) / hour / share
    hours = (slower + scoring + updates) * WAITING * case.chips
    flops = tokens * (update.flops + SCORES * read.flops) + recipe.tokens * 2 * shape.active
    return RlBill(slower, scoring, updates, "the longest answer" if slower is tail else "throughput",
                  priced(flops, share, hours, case.chip, case.chips, usd_per_hour))  # fmt: skip
