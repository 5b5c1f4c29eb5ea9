"""Fits find the law that made the measurements, and their intervals hold it as often as they state."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raison.errors import UserError
from raison.plan.coverage import BetaMixture, fit_mixture
from raison.plan.laws import EPOCH_REFIT, Sigmoid, fit_chinchilla, fit_sigmoid

SIZES, TOKENS = (1e6, 3e6, 1e7, 3e7, 1e8), (1e8, 1e9, 1e10, 1e11)
RUNS = [(n, d) for n in SIZES for d in TOKENS]


def test_chinchilla_comes_back_from_its_own_losses():
    n, d = zip(*RUNS, strict=True)
    law = fit_chinchilla(n, d, [EPOCH_REFIT.loss(*run) for run in RUNS]).law
    assert law.loss(1e10, 1e12) == pytest.approx(EPOCH_REFIT.loss(1e10, 1e12), rel=1e-3)
    assert (law.alpha, law.beta) == pytest.approx((EPOCH_REFIT.alpha, EPOCH_REFIT.beta), rel=0.01)


def test_the_optimum_is_where_no_other_split_of_the_budget_has_less_loss():
    flops = 5.76e23
    best = EPOCH_REFIT.loss(*EPOCH_REFIT.optimum(flops))
    sizes = np.geomspace(1e9, 1e13, 400)
    assert best == pytest.approx(min(EPOCH_REFIT.loss(n, flops / 6 / n) for n in sizes), rel=1e-5)
    assert best <= min(EPOCH_REFIT.loss(n, flops / 6 / n) for n in sizes)


@settings(max_examples=8, deadline=None)
@given(st.floats(0.0, 0.2), st.floats(0.5, 1.0), st.floats(20.0, 200.0), st.floats(0.6, 3.0))
def test_a_sigmoid_comes_back_from_its_own_points(start, ceiling, midpoint, exponent):
    law = Sigmoid(start, ceiling, midpoint, exponent)
    compute = np.geomspace(2, 2000, 9)
    found = fit_sigmoid(compute, [law.value(c) for c in compute]).law
    assert [found.value(c) for c in compute] == pytest.approx([law.value(c) for c in compute], abs=0.01)


def test_one_run_gone_wrong_does_not_bend_the_curve():
    """As in a grid where the largest model never learned: by least squares the ceiling would be near 0.7."""
    law, draw = Sigmoid(0.0, 0.95, 100.0, 4.0), np.random.default_rng(5)
    compute = np.repeat(np.geomspace(20, 600, 6), 2)
    values = [law.value(c) + draw.normal(0, 0.01) for c in compute]
    values[-1] = 0.06
    found = fit_sigmoid(compute, values, start=0.0)
    assert [found.law.value(c) for c in compute] == pytest.approx([law.value(c) for c in compute], abs=0.04)
    assert found.law.ceiling > 0.9 and found.mean_error < found.rms


def test_one_loss_gone_wrong_does_not_bend_the_law():
    n, d = zip(*RUNS, strict=True)
    losses = [EPOCH_REFIT.loss(*run) for run in RUNS]
    losses[-1] *= 1.5
    law = fit_chinchilla(n, d, losses).law
    assert law.loss(n[-1], d[-1]) == pytest.approx(EPOCH_REFIT.loss(n[-1], d[-1]), rel=0.02)


def test_a_ceiling_is_never_above_the_most():
    compute = [1.0, 2.0, 4.0, 8.0, 16.0]
    fit = fit_sigmoid(compute, [0.2, 0.4, 0.6, 0.8, 1.0], start=0.0)
    assert all(law.ceiling <= 1.0 for law in (fit.law, *fit.resampled))
    assert fit_sigmoid(compute, [0.2, 0.4, 0.6, 0.8, 1.0], start=0.0, most=9.0).law.ceiling > 1.0


def test_a_steep_curve_far_from_its_middle_is_one_of_its_levels():
    law = Sigmoid(0.1, 0.9, 1e12, 30.0)
    assert (law.value(1e-9), law.value(1e30)) == pytest.approx((0.1, 0.9))
    assert law.slope(1e-9) == pytest.approx(0.0)


def test_the_slope_is_the_derivative():
    law = Sigmoid(0.1, 0.9, 40.0, 1.4)
    assert law.slope(30.0) == pytest.approx((law.value(30.01) - law.value(29.99)) / 0.02, rel=1e-5)


def test_a_sigmoids_intervals_hold_the_truth_about_as_often_as_stated():
    # 20 draws at a true rate of 80 %: fewer than 12 or all 20 hits in 2 % of the seeds; the seed is fixed.
    law, draw = Sigmoid(0.1, 0.8, 50.0, 1.2), np.random.default_rng(11)
    compute = np.geomspace(3, 800, 10)
    hits = 0
    for _ in range(20):
        values = [law.value(c) + draw.normal(0, 0.02) for c in compute]
        hits += fit_sigmoid(compute, values).interval(lambda found: found.value(400.0)).holds(law.value(400.0))
    assert 12 <= hits <= 19


def test_coverage_of_a_mixture_is_the_mean_over_problems():
    draw, law = np.random.default_rng(3), BetaMixture(0.5, 1.5)
    chances = draw.beta(0.5, 1.5, 400_000)
    for k in (1, 4, 32):
        # The standard error of the mean is below 0.5 / sqrt(400,000) = 0.0008: five of them.
        assert law.coverage(k) == pytest.approx(float(np.mean(1 - (1 - chances) ** k)), abs=0.004)


def test_a_vote_is_the_binomial_tail_over_problems():
    law, k, rival = BetaMixture(2.0, 3.0), 31, 0.4
    p = (np.arange(4000) + 0.5) / 4000
    tails = sum(comb(k, wins) * p**wins * (1 - p) ** (k - wins) for wins in range(13, k + 1))
    weights = p * (1 - p) ** 2
    assert law.majority(k, rival) == pytest.approx(float((tails * weights).sum() / weights.sum()), abs=0.02)


def test_a_mixture_is_found_from_counts():
    draw = np.random.default_rng(4)
    right = draw.binomial(32, draw.beta(0.5, 1.5, 400))
    fit = fit_mixture(right.tolist(), [32] * 400)
    # pass@1 has a standard error of about 0.25 / sqrt(400) = 0.0125; four of them.
    assert fit.law.mean == pytest.approx(0.25, abs=0.05)
    assert fit.interval(lambda law: law.coverage(100)).holds(BetaMixture(0.5, 1.5).coverage(100))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: fit_sigmoid([1.0, 2.0], [0.1, 0.2]),
        lambda: fit_sigmoid([0.0, 1.0, 2.0, 3.0], [0.1, 0.2, 0.3, 0.4]),
        lambda: fit_chinchilla([1.0] * 6, [1.0] * 5, [1.0] * 6),
        lambda: fit_chinchilla([1.0] * 6, [1.0] * 6, [0.0] * 6),
        lambda: fit_mixture([3, 1], [2, 2]),
    ],
)
def test_measurements_that_cannot_be_fitted_are_refused(wrong):
    with pytest.raises(UserError):
        wrong()
