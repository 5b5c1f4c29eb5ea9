"""Best-of-n and weighted votes: samples scored by a checker or a reward function.

Best-of-n takes the best-scored sample; weighted, the class of equivalent answers whose scores add up to most (Li et al.
2022, arXiv 2206.02336, eq. 3; Snell et al. 2024, arXiv 2408.03314, section 5.1). With a checker a score is 1 or 0, and
the first sample it accepts ends the search: nothing can be better. That uses what a vote does not have, so that neither
compares with self-consistency.
Not covered: scores of steps (search.py), training a reward model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from raison.engine.sequence import Event
from raison.errors import UserError
from raison.records import Completion
from raison.think.ballot import CANCELLED, Ballot
from raison.think.equivalence import Equivalence
from raison.think.strategy import NOTHING, Bound, Branch, Orders, Outcome, Tally

Score: TypeAlias = Callable[[Completion], float]
"""How good a finished sample is, 0 or more."""


class Judged:
    """`most` samples, `width` of them at a time. `enough` is the score that ends the search; None hears all."""

    def __init__(
        self, score: Score, most: int, width: int, same: Equivalence, weighted: bool, enough: float | None = None
    ) -> None:
        self._score, self._most, self._width = score, most, width
        self._weighted, self._enough = weighted, enough
        self._ballot = Ballot(same)
        self._scores: dict[int, float] = {}
        self._started = 0
        self._why = ""

    def begin(self) -> Orders:
        return self._start()

    def hear(self, branch: int, event: Event) -> Orders:
        if event.finished is None:
            return NOTHING
        self._ballot.end(branch, event.finished)
        if self._why or event.finished.finish_reason == CANCELLED:
            return NOTHING
        score = self._scores[branch] = _sound(self._score(event.finished))
        self._ballot.cast(branch, score)
        if self._enough is not None and score >= self._enough:
            self._why = "the checker accepts it"
            return Orders(cancel=tuple(n for n in range(self._started) if n not in self._ballot.ended))
        if len(self._ballot.ended) == self._most:
            self._why = f"all {self._most} samples scored"
        return NOTHING if self._why else self._start()

    @property
    def outcome(self) -> Outcome | None:
        if not self._why:
            return None
        by_class = self._ballot.outcome(self._why)
        best = max(self._scores, key=lambda branch: (self._scores[branch], -branch), default=None)
        if self._weighted or best is None:
            return by_class
        completion = self._ballot.ended[best]
        return Outcome(best, completion, by_class.tally, by_class.why, by_class.branches)

    def tally(self) -> Tally:
        return self._ballot.tally(self._why)

    def bound(self, sample_tokens: int) -> Bound:
        return Bound(min(self._width, self._most), self._most * sample_tokens)

    def _start(self) -> Orders:
        """Keep `width` under way."""
        first = self._started
        self._started = min(self._most, len(self._ballot.ended) + self._width)
        return Orders(start=tuple(map(Branch, range(first, self._started))))


def _sound(score: float) -> float:
    if not math.isfinite(score) or score < 0:
        raise UserError(f"a reward function gave {score}; a score is a number of 0 or more")
    return score
