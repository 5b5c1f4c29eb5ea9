"""What every strategy keeps: the branches it started, how each ended, and the answers sorted into classes.

A class is shown by its heaviest wording, and of the branches that gave it by the heaviest, then the likeliest, so that
what is chosen does not depend on the order in which branches end. Ties of classes go to the class of the earliest
branch. Not covered: when to stop (stopping.py), what an answer weighs (judged.py, confidence.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from raison.records import Completion
from raison.think.equivalence import Equivalence, form
from raison.think.strategy import AnswerClass, Outcome, Tally, report, tokens_of

CANCELLED = "cancelled"


@dataclass(slots=True)
class _Class:
    weight: float = 0.0
    branches: list[int] = field(default_factory=list)


class Ballot:
    """`ended` holds every completion heard; only those that were cast have a voice."""

    def __init__(self, same: Equivalence) -> None:
        self.ended: dict[int, Completion] = {}
        self._same = same
        self._classes: list[_Class] = []
        self._weight: dict[int, float] = {}

    def end(self, branch: int, completion: Completion) -> None:
        """Count a branch that has ended, whether it votes or not."""
        assert branch not in self.ended, f"branch {branch} ended twice"
        self.ended[branch] = completion

    def cast(self, branch: int, weight: float = 1.0) -> bool:
        """Give an ended branch's answer its weight; False where it has no answer, or was cancelled before one."""
        completion = self.ended[branch]
        if completion.finish_reason == CANCELLED or form(completion.answer) is None:
            return False
        known = [self.ended[found.branches[0]].answer for found in self._classes]
        place = self._same.find(completion.answer, known)
        if place is None:
            place = len(self._classes)
            self._classes.append(_Class())
        self._classes[place].weight += weight
        self._classes[place].branches.append(branch)
        self._weight[branch] = weight
        return True

    @property
    def weights(self) -> list[float]:
        """Weights of the classes, heaviest first."""
        return sorted((found.weight for found in self._classes), reverse=True)

    @property
    def tokens(self) -> int:
        return sum(map(tokens_of, self.ended.values()))

    def tally(self, why: str = "") -> Tally:
        """Classes, heaviest first; those of no weight do not lead."""
        ranked = sorted(self._classes, key=lambda found: (-found.weight, min(found.branches)))
        classes = tuple(self._shown(found) for found in ranked)
        return Tally(classes, 0 if classes and classes[0].weight > 0 else None, why)

    def outcome(self, why: str) -> Outcome:
        """The leader's wording, or where nothing was answered the first branch that came to an end."""
        tally = self.tally(why)
        chosen = self._voice(tally.classes[tally.leader].branches) if tally.leader is not None else self._first()
        reports = tuple(report(branch, completion) for branch, completion in sorted(self.ended.items()))
        return Outcome(chosen, None if chosen is None else self.ended[chosen], tally, why, reports)

    def _shown(self, found: _Class) -> AnswerClass:
        branches = tuple(sorted(found.branches))
        return AnswerClass(self.ended[self._voice(branches)].answer, found.weight, branches)

    def _voice(self, branches: Sequence[int]) -> int:
        """The branch that speaks for its class."""
        said, weight = self.ended, self._weight
        wordings: defaultdict[str, float] = defaultdict(float)
        for branch in branches:
            wordings[said[branch].answer] += weight[branch]
        return max(branches, key=lambda b: (wordings[said[b].answer], weight[b], likelihood(said[b]), -b))

    def _first(self) -> int | None:
        return min((b for b, completion in self.ended.items() if completion.finish_reason != CANCELLED), default=None)


def likelihood(completion: Completion) -> float:
    """Mean log-probability of the sampled tokens; 0 where an endpoint tells none."""
    return sum(completion.logprobs) / len(completion.logprobs) if completion.logprobs else 0.0
