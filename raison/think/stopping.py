"""When a vote has heard enough: pure rules over the counts of its classes.

    fixed       self-consistency: all n samples (Wang et al. 2022, arXiv 2203.11171)
    decided     the same, until what is left could not change the leader: always self-consistency's class
    adaptive    P(p1 > p2 | v1, v2) > certainty under a Beta posterior on the two leading classes
                (Aggarwal et al. 2023, arXiv 2305.11860, section 3: the "Beta" criterion, certainty 0.95)
    windows     a whole window of w samples says the same (Li et al. 2024, arXiv 2401.10480, w = 5)
    gain        auto: more samples would raise the expected accuracy by less than they cost at the stated price

A rule asks for as many samples as it needs at least before it could stop. One sample after the other would draw those
too, so that drawing them at once costs nothing but spares the waiting.
Not covered: weights, answers, tokens of a sample under way (confidence.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

POINT = 0.01


@dataclass(frozen=True, slots=True)
class Standing:
    """What a rule may look at."""

    counts: tuple[int, ...]
    """Votes by class, highest first."""
    heard: int
    """Samples that ended, those without an answer included."""
    under_way: int
    most: int
    """Samples the vote may draw in all."""
    recent: tuple[int, ...] = ()
    """The class of each sample heard, in order of branches; -1 for one without an answer."""

    @property
    def left(self) -> int:
        return self.most - self.heard - self.under_way

    @property
    def leading(self) -> tuple[int, int]:
        """Votes of the two leading classes."""
        first, second, *_ = (*self.counts, 0, 0)
        return first, second


@dataclass(frozen=True, slots=True)
class Advice:
    """So many samples more, or stop for the reason given; neither means wait."""

    more: int = 0
    stop: str = ""


WAIT = Advice()


class Rule(Protocol):
    def advise(self, standing: Standing) -> Advice:
        """Asked before the first sample and after each that ends; what stops at `most` stops without it."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    def advise(self, standing: Standing) -> Advice:
        return Advice(standing.left)


@dataclass(frozen=True, slots=True)
class Decided:
    def advise(self, standing: Standing) -> Advice:
        if standing.under_way:
            return WAIT
        first, second = standing.leading
        lead, left = first - second, standing.left
        if lead > left:
            return Advice(stop=f"the {left} samples left could not change the leader")
        return Advice((left - lead) // 2 + 1)


@dataclass(frozen=True, slots=True)
class Adaptive:
    certainty: float = 0.95

    def advise(self, standing: Standing) -> Advice:
        if standing.under_way:
            return WAIT
        first, second = standing.leading
        if first and (sure := leads(first, second)) > self.certainty:
            return Advice(stop=f"the leader is the commonest answer with probability {sure:.3f}")
        more = 1
        while leads(first + more, second) <= self.certainty and more < standing.left:
            more += 1
        return Advice(more)


@dataclass(frozen=True, slots=True)
class Windows:
    size: int = 5

    def advise(self, standing: Standing) -> Advice:
        if standing.under_way:
            return WAIT
        last = standing.recent[-self.size :]
        if len(last) == self.size and last[0] >= 0 and len(set(last)) == 1:
            return Advice(stop=f"the last {self.size} samples say the same")
        return Advice(min(self.size, standing.left))


@dataclass(frozen=True, slots=True)
class Gain:
    """Stops when no number of further samples is worth its cost; the best number says how far to go before asking
    again, but never further than the fewest that could change the leader.
    """

    price: float = 4.0
    """Samples that one percentage point of expected accuracy is worth. At 4, three that agree are enough; at 2,
    two are, which lost two points of 85 on arithmetic where 4 lost less than one.
    """

    def advise(self, standing: Standing) -> Advice:
        if standing.under_way:
            return WAIT
        if not standing.heard:
            return Advice(self._unavoidable(standing))
        first, second = standing.leading
        gains = [expected_gain(first, second, standing.heard, k) for k in range(1, standing.left + 1)]
        best = max(gains, default=0.0)
        if all(gain / POINT * self.price <= k for k, gain in enumerate(gains, 1)):
            worth = f"{best / POINT:.1f} points, worth {best / POINT * self.price:.1f} samples"
            return Advice(stop=f"{standing.left} more samples would gain {worth}")
        return Advice(self._unavoidable(standing))

    def _unavoidable(self, standing: Standing) -> int:
        """How many samples will be drawn whatever the next ones say, as far as all for the leader shows."""
        first, second = standing.leading
        more = 1
        while more < standing.left and not self._over(first + more, second, standing.heard + more, standing.most):
            more += 1
        return more

    def _over(self, first: int, second: int, heard: int, most: int) -> bool:
        return all(expected_gain(first, second, heard, k) / POINT * self.price <= k for k in range(1, most - heard + 1))


def leads(first: int, second: int) -> float:
    """P(p1 > 1/2) for p1 ~ Beta(first + 1, second + 1): 1 - I_{1/2}(first + 1, second + 1).

    A binomial tail, exact for whole numbers: P(Binomial(first + second + 1, 1/2) <= first).
    """
    trials = first + second + 1
    return float(sum(math.comb(trials, j) for j in range(first + 1)) / (1 << trials))


def beta_binomial(hits: int, draws: int, first: int, second: int) -> float:
    """P(hits of so many draws go to the first class) where p1 ~ Beta(first + 1, second + 1)."""
    a, b = first + 1, second + 1
    ways = math.comb(draws, hits) * math.comb(a + b - 1, a) * a
    total = math.comb(a + b + draws - 1, a + hits) * (a + hits)
    return float(ways / total)


@lru_cache(maxsize=1 << 16)
def expected_gain(first: int, second: int, heard: int, more: int) -> float:
    """How much `more` samples would raise the probability that the vote's leader is the commoner of the two classes.

    Preposterior analysis (Raiffa & Schlaifer 1961, chapter 4): the mean, over what the samples may say, of the
    probability with which the leader then leads, less what it is now. A sample falls on one of the two classes with
    the share of those heard that did, (first + second + 1) / (heard + 2), and on the first of them by the Beta
    posterior of the adaptive rule. Exact sums; 0 where the leader could not change.
    """
    on_them = (first + second + 1) / (heard + 2)
    now = max(leads(first, second), leads(second, first))
    return sum(
        math.comb(more, m) * on_them**m * (1 - on_them) ** (more - m) * (_after(first, second, m) - now)
        for m in range(1, more + 1)
    )


def _after(first: int, second: int, draws: int) -> float:
    """The leader's expected probability to be the commoner class when so many more have voted for one of the two."""
    return sum(
        beta_binomial(hits, draws, first, second)
        * max(leads(first + hits, second + draws - hits), leads(second + draws - hits, first + hits))
        for hits in range(draws + 1)
    )
