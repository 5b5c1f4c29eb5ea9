"""Stopping rules against closed forms, brute force and simulation."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from math import comb, factorial

import pytest

from raison.think.stopping import Adaptive, Decided, Gain, Standing, beta_binomial, expected_gain, leads


def exact_beta_tail(first: int, second: int) -> Fraction:
    """The integral from 1/2 to 1 of p^first (1-p)^second, by expanding the polynomial, over the whole integral."""

    def integral(low: Fraction) -> Fraction:
        terms = (
            Fraction((-1) ** j * comb(second, j), first + j + 1) * (1 - low ** (first + j + 1))
            for j in range(second + 1)
        )
        return sum(terms, Fraction(0))

    return integral(Fraction(1, 2)) / integral(Fraction(0))


@pytest.mark.parametrize("first", range(9))
@pytest.mark.parametrize("second", range(9))
def test_leads_is_the_tail_of_the_beta_posterior(first: int, second: int) -> None:
    assert leads(first, second) == pytest.approx(float(exact_beta_tail(first, second)), rel=1e-12)


def test_leads_in_closed_form() -> None:
    """Unanimous after n: 1 - 2^-(n+1); the first n above 0.95 is 4, as in the paper's examples of early stops."""
    for n in range(12):
        assert leads(n, 0) == 1 - 2.0 ** -(n + 1)
    assert leads(3, 0) < 0.95 < leads(4, 0)


@pytest.mark.parametrize(("first", "second", "draws"), [(0, 0, 3), (2, 1, 4), (5, 0, 6)])
def test_beta_binomial_against_its_integral(first: int, second: int, draws: int) -> None:
    for hits in range(draws + 1):
        a, b = first + hits, second + draws - hits
        ways = comb(draws, hits) * Fraction(factorial(a) * factorial(b), factorial(a + b + 1))
        norm = Fraction(factorial(first) * factorial(second), factorial(first + second + 1))
        assert beta_binomial(hits, draws, first, second) == pytest.approx(float(ways / norm), rel=1e-12)
    assert sum(beta_binomial(h, draws, first, second) for h in range(draws + 1)) == pytest.approx(1.0)


def test_expected_gain_by_hand() -> None:
    """(1, 0), heard 1, two more. Both fall on the two classes with (2/3)^2, both on the second with B = 1/6; then
    (1, 2) leads with 11/16 instead of 5/16. Any other way the leader stays, and gains nothing on average.
    """
    assert expected_gain(1, 0, 1, 2) == pytest.approx((2 / 3) ** 2 * (1 / 6) * (11 / 16 - 5 / 16))
    assert expected_gain(1, 0, 1, 1) == pytest.approx(0.0), "one sample ties at most"
    assert expected_gain(3, 0, 3, 3) == pytest.approx(0.0)


def test_expected_gain_grows_with_samples_and_shrinks_with_the_lead() -> None:
    for first, second in ((1, 1), (2, 1), (3, 1)):
        gains = [expected_gain(first, second, first + second, k) for k in range(1, 10)]
        assert all(later >= sooner - 1e-12 for sooner, later in pairwise(gains))
    assert expected_gain(2, 1, 3, 6) > expected_gain(3, 1, 4, 6) > expected_gain(5, 1, 6, 6)


def standing(counts: tuple[int, ...], most: int = 16) -> Standing:
    return Standing(counts, sum(counts), 0, most)


@pytest.mark.parametrize("rule", [Adaptive(), Adaptive(0.8), Decided(), Gain(), Gain(0.5), Gain(8.0)])
def test_drawing_at_once_spends_no_more_than_one_by_one(rule: Adaptive | Decided | Gain) -> None:
    """From every standing of two classes: had the leader won all the samples asked for but the last, it would go on."""
    for first in range(8):
        for second in range(first + 1):
            if first + second == 0:
                continue
            advice = rule.advise(standing((first, second)))
            for fewer in range(1, advice.more):
                assert not rule.advise(standing((first + fewer, second))).stop


def votes(rule: Adaptive | Decided | Gain, shares: list[float], numbers: random.Random) -> tuple[int, int]:
    """The leader and the samples drawn, where answers come with these shares."""
    heard: list[int] = []
    while len(heard) < 16:
        counts = tuple(count for _, count in Counter(heard).most_common())
        advice = rule.advise(Standing(counts, len(heard), 0, 16))
        if advice.stop:
            break
        heard += numbers.choices(range(len(shares)), shares, k=advice.more)
    return Counter(heard).most_common(1)[0][0], len(heard)


@pytest.mark.parametrize(("rule", "less"), [(Adaptive(), 0.0), (Gain(), 0.03)], ids=["adaptive", "gain"])
def test_stopping_early_costs_no_more_accuracy_than_it_says(rule: Adaptive | Gain, less: float) -> None:
    """4,000 problems whose right answer's share is uniform: the prior that the Beta posterior assumes.

    The vote of 16 is right on about 0.9 of them. Each rule may lose `less` and five standard errors of the paired
    difference, 0.0035 where a twentieth of the problems differ: chance alone fails this once in three million seeds.
    """
    numbers = random.Random(11)
    lost = drawn = 0
    for _ in range(4000):
        p = numbers.random()
        right = 0 if p >= 0.5 else 1
        leader, count = votes(rule, [p, 1 - p], numbers)
        whole = Counter(numbers.choices((0, 1), (p, 1 - p), k=16)).most_common(1)[0][0]
        lost += (whole == right) - (leader == right)
        drawn += count
    assert lost / 4000 <= less + 5 * 0.0035
    assert drawn / 4000 < 12
