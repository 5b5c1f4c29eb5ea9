"""Votes by answer equivalence: self-consistency and the rules that stop it sooner.

Every sample has one voice. What differs is when to stop, which a rule of stopping.py says. Not covered: weights
(confidence.py, judged.py).
"""

from __future__ import annotations

from raison.engine.sequence import Event
from raison.think.ballot import Ballot
from raison.think.equivalence import Equivalence
from raison.think.stopping import Rule, Standing
from raison.think.strategy import NOTHING, Bound, Branch, Orders, Outcome, Tally


class Vote:
    """Draws samples as its rule asks, `most` at most; the commonest answer wins."""

    def __init__(self, rule: Rule, most: int, same: Equivalence) -> None:
        self._rule, self._most = rule, most
        self._ballot = Ballot(same)
        self._started = 0
        self._why = ""

    def begin(self) -> Orders:
        return self._follow()

    def hear(self, branch: int, event: Event) -> Orders:
        if event.finished is None:
            return NOTHING
        self._ballot.end(branch, event.finished)
        if self._why:
            return NOTHING
        self._ballot.cast(branch)
        return self._follow()

    @property
    def outcome(self) -> Outcome | None:
        return self._ballot.outcome(self._why) if self._why else None

    def tally(self) -> Tally:
        return self._ballot.tally(self._why)

    def bound(self, sample_tokens: int) -> Bound:
        return Bound(self._most, self._most * sample_tokens)

    def _follow(self) -> Orders:
        heard = len(self._ballot.ended)
        if heard == self._most:
            self._why = f"all {self._most} samples heard"
            return NOTHING
        advice = self._rule.advise(self._standing())
        self._why = advice.stop
        if self._why:
            return Orders(cancel=tuple(n for n in range(self._started) if n not in self._ballot.ended))
        first, self._started = self._started, min(self._most, self._started + advice.more)
        return Orders(start=tuple(map(Branch, range(first, self._started))))

    def _standing(self) -> Standing:
        classes = self._ballot.tally().classes
        place = {branch: i for i, found in enumerate(classes) for branch in found.branches}
        ended = sorted(self._ballot.ended)
        return Standing(
            counts=tuple(len(found.branches) for found in classes), heard=len(ended),
            under_way=self._started - len(ended), most=self._most,
            recent=tuple(place.get(branch, -1) for branch in ended),
        )  # fmt: skip
