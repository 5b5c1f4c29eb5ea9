"""Intervals and pass@k against published or independently computed numbers."""

from __future__ import annotations

from itertools import combinations

import pytest

from raison.tasks.countdown import Countdown
from raison.think.measure import held_out_problems, pass_at_k, wilson


def test_wilson_against_published_values() -> None:
    """Newcombe 1998, table I: 81 of 263 and 15 of 148."""
    first, second = wilson(81, 263), wilson(15, 148)
    assert (round(first.low, 4), round(first.high, 4)) == (0.2553, 0.3662)
    assert (round(second.low, 4), round(second.high, 4)) == (0.0624, 0.1605)


def test_wilson_stays_within_bounds() -> None:
    assert wilson(0, 20).low == 0.0
    assert wilson(20, 20).high == pytest.approx(1.0)
    with pytest.raises(ValueError, match="at least one"):
        wilson(0, 0)


@pytest.mark.parametrize(("samples", "right", "k"), [(5, 2, 3), (8, 1, 8), (6, 0, 2), (4, 4, 1)])
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(samples: int, right: int, k: int) -> None:
    draws = list(combinations([i < right for i in range(samples)], k))
    assert pass_at_k(samples, right, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_held_out_problems_are_different_and_the_same_every_time() -> None:
    task = Countdown(held_out=True)
    problems = held_out_problems(task, 3, 50, seed=7)
    assert len({p.id for p in problems}) == 50
    assert problems == held_out_problems(task, 3, 50, seed=7)
    train = Countdown()
    assert not {p.id for p in problems} & {train.sample(i, 3).id for i in range(500)}
