"""The number of guesses that pays is found by timing, and looked for again."""

from __future__ import annotations

import pytest

from raison.engine.worth import PERIOD, SHORTEST, TRIAL, Worth


def choices(worth: Worth, steps: int, seconds: dict[int, float], tokens: dict[int, float], batch: int = 1) -> list[int]:
    """The depths of so many steps."""
    found: list[int] = []
    while len(found) < steps:
        depth, most = worth.depth(batch), min(worth.most(batch), 16)
        worth.learn(batch, depth, most, most * seconds[depth], most * batch * tokens[depth])
        found += [depth] * most
    return found


@pytest.mark.parametrize(
    ("tokens", "best"), [((1, 1.9, 2.5, 2.7), 2), ((1, 1.1, 1.2, 1.25), 0), ((1, 2, 3, 4), 3), ((1, 1.6, 1.8, 1.9), 1)]
)
def test_the_cheapest_depth_is_taken(tokens: tuple[float, ...], best: int) -> None:
    seconds = {0: 1.0, 1: 1.3, 2: 1.6, 3: 1.9}
    worth = Worth(3)
    tried = tokens[1] > 1.2
    trials = choices(worth, SHORTEST + (3 if tried else 1) * TRIAL, seconds, dict(enumerate(tokens)))
    assert trials == [0] * SHORTEST + [1] * TRIAL + ([2] * TRIAL + [3] * TRIAL if tried else [])
    assert set(choices(worth, PERIOD, seconds, dict(enumerate(tokens)))) == {best}
    assert worth.depth(100) == 0  # other batches are looked at on their own


def test_trials_come_again_but_less_and_less() -> None:
    worth, seconds, tokens = Worth(1), {0: 1.0, 1: 3.0}, {0: 1.0, 1: 2.0}
    found = choices(worth, 8 * PERIOD, seconds, tokens)
    assert 0.01 < found.count(1) / len(found) < 0.03
    seconds[1] = 1.2  # the texts have changed
    assert choices(worth, 9 * PERIOD, seconds, tokens)[-PERIOD:].count(1) > 0.9 * PERIOD


def test_one_slow_step_decides_nothing() -> None:
    worth = Worth(1)
    for turn in range((TRIAL + SHORTEST) // 2 + 5):
        depth, most = worth.depth(1), min(worth.most(1), 2)
        worth.learn(1, depth, most, most * (1000.0 if turn == 3 else 1.0), most * (1 + depth))
    assert worth.depth(1) == 1
