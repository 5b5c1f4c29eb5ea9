"""A request's `strategy` made ready: the state machine, and where it needs one, the judge of its samples.

    {"vote": "best-of-n", "checker": "countdown"}                       the problem is the last user's message
    {"vote": "weighted", "checker": "number", "problem": {"gold": "46"}}

A strategy asks for scores while it hears, on the event loop, and must not wait there. So a sample that ended is judged
first, in a thread that is neither the loop's nor the engine's, and told to the strategy when its score is known. A
check that fails or takes too long, as the sandbox measures it, is a score of 0: it says nothing for the answer. The
wait for a thread is not measured, and ends with the request's deadline. Not covered: which checkers there are
(checkers.py), the strategies (think/).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from raison.errors import CheckerError
from raison.records import Completion
from raison.serve.checkers import Check, Checkers, Posed
from raison.serve.mistake import Mistake
from raison.think.parse import VOTES, Context, parse_strategy
from raison.think.strategy import Strategy

LOG = logging.getLogger("raison.serve")


class Judge:
    """Scores of one request's samples: 1 for an answer that the checker accepts, else 0. A think.judged.Score."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._scores: dict[str, float] = {}

    def __call__(self, completion: Completion) -> float:
        """The score of a completion that was weighed."""
        return self._scores[completion.answer]

    async def weigh(self, completion: Completion, threads: Executor) -> None:
        """Judge its answer in one of the threads; the same answer is judged once."""
        answer = completion.answer
        if answer not in self._scores:
            self._scores[answer] = await self._score(answer, threads)

    async def _score(self, answer: str, threads: Executor) -> float:
        try:
            verdict = await asyncio.get_running_loop().run_in_executor(threads, self._check, answer)
        except CheckerError as error:
            LOG.warning("a checker failed and the answer counts as wrong: %s", error)
            return 0.0
        return verdict.reward


@dataclass(frozen=True, slots=True)
class Plan:
    """How a request spends its samples."""

    vote: str
    strategy: Strategy
    judge: Judge | None


def plan(wish: Mapping[str, Any], question: str, max_tokens: int, most_samples: int, checkers: Checkers) -> Plan:
    """A new plan. `question` is the last user's message. Raises UserError, or Mistake, that names the field."""
    vote = wish.get("vote", "auto")
    judge = None
    if isinstance(vote, str) and vote in VOTES and VOTES[vote].judged:
        judge = Judge(_check(wish, question, checkers))
        wish = {name: value for name, value in wish.items() if name not in ("checker", "problem")}
    context = Context(max_tokens, most_samples, score=judge, checker=True)
    return Plan(str(vote), parse_strategy(wish, context), judge)


def _check(wish: Mapping[str, Any], question: str, checkers: Checkers) -> Check:
    if "checker" not in wish:
        raise Mistake(
            f'strategy.vote "{wish["vote"]}" needs a checker; name one of {", ".join(checkers.names)} in '
            "strategy.checker", "strategy",
        )  # fmt: skip
    given = wish.get("problem", {})
    if not isinstance(given, Mapping):
        raise Mistake("strategy.problem must be an object with prompt, gold or meta", "strategy")
    try:
        posed = Posed.model_validate({"prompt": question, **given})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("strategy.problem", *first["loc"])))
        raise Mistake(f"{where}: {first['msg']}", "strategy") from None
    return checkers.of(wish["checker"], posed)
