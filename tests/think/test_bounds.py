"""What a strategy says it takes at most: never passed, whatever its samples do, and reached by those that draw all."""

from __future__ import annotations

import random
from typing import Any

import pytest

from raison.engine.sequence import Event
from raison.think.parse import VOTES, Context, parse_strategy
from raison.think.strategy import Branch, Orders, Strategy
from tests.think.scripted import end, said

MOST = 50
"""Tokens of a sample."""
REACHED = ("self-consistency", "best-of-n", "beam", "dvts")
"""Those that draw all they may where no sample agrees with another."""


def settings(name: str, numbers: random.Random) -> dict[str, Any]:
    """Some values for the fields that say how much is drawn."""
    fan = numbers.randrange(1, 5)
    drawn = {
        "max_samples": numbers.randrange(1, 20), "width": numbers.randrange(1, 9), "warmup": numbers.randrange(1, 9),
        "fan": fan, "paths": fan * numbers.randrange(1, 5), "step_tokens": numbers.randrange(1, 2 * MOST),
        "max_steps": numbers.randrange(1, 12),
    }  # fmt: skip
    return {field: value for field, value in drawn.items() if field in VOTES[name].fields}


class Samples:
    """Branches under way, which end in any order; `peak` and `tokens` are what they took."""

    def __init__(self, strategy: Strategy, numbers: random.Random, all_of_it: bool) -> None:
        self.peak = self.tokens = 0
        self._strategy, self._numbers, self._all = strategy, numbers, all_of_it
        self._running: dict[int, Branch] = {}

    def run(self) -> None:
        self._obey(self._strategy.begin())
        while self._running:
            self._end(self._numbers.choice(sorted(self._running)))
        assert self._strategy.outcome is not None
        assert self._strategy.outcome.tokens == self.tokens

    def _obey(self, orders: Orders) -> None:
        self._running |= {branch.number: branch for branch in orders.start}
        self.peak = max(self.peak, len(self._running))
        for number in orders.cancel:
            if number in self._running:
                self._end(number, cancelled=True)

    def _end(self, number: int, cancelled: bool = False) -> None:
        branch = self._running.pop(number)
        most = min(branch.max_tokens or MOST, MOST - len(branch.prefix))
        tokens = most if self._all else self._numbers.randrange(1, most + 1)
        self.tokens += tokens
        if cancelled:
            event = Event(0, None, None, False, said("", tokens, "cancelled"))
        elif tokens == most:
            event = Event(0, 1, None, False, said(str(number), tokens, "length"))
        else:
            event = end(str(self._numbers.randrange(3)), tokens)
        self._obey(self._strategy.hear(number, event))


@pytest.mark.parametrize("name", VOTES)
def test_no_strategy_takes_more_than_it_says(name: str) -> None:
    for seed in range(300):
        numbers = random.Random(f"{name}:{seed}")
        wish, all_of_it = {"vote": name, **settings(name, numbers)}, seed % 3 == 0
        strategy = parse_strategy(wish, Context(MOST, score=lambda _: 0.5, checker=True))
        bound = strategy.bound(MOST)
        samples = Samples(strategy, numbers, all_of_it)
        samples.run()
        assert samples.peak <= bound.branches, wish
        assert samples.tokens <= bound.tokens, wish
        if all_of_it and name in REACHED:
            assert (samples.peak, samples.tokens) == (bound.branches, bound.tokens), wish
