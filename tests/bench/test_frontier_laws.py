"""From made-up cells, whose laws are known, back to the laws, and from laws to the best split."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import astuple, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raison.bench.frontier.allocate import LAWS, Bounds, Law, Split, best, predicted, recommend
from raison.bench.frontier.check import Arm, Run
from raison.bench.frontier.fitting import Fitted, _teller, fit_laws
from raison.bench.frontier.forecast import Clock
from raison.bench.frontier.laws import STEEP, World
from raison.bench.frontier.prices import Line, Prices, prices_of, total
from raison.bench.frontier.record import Record
from raison.bench.frontier.result import RUNGS, Analysis, Placed, analyse, constants, pareto, to_json
from raison.errors import UserError
from tests.bench.grids import PARAMETERS, TRUE, learning, made_up, resamples, wide

GRID = wide()
BOUNDS = Bounds.of(GRID)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return made_up(GRID)


@pytest.fixture(scope="module")
def analysis(records: list[Record]) -> Iterator[Analysis]:
    with resamples(8):
        yield analyse(GRID, records)


@pytest.fixture(scope="module")
def fitted(analysis: Analysis) -> Fitted:
    return analysis.fitted


@pytest.fixture(scope="module")
def prices(records: list[Record]) -> dict[str, Prices]:
    return prices_of(GRID, records, "flops")


def test_the_laws_come_back_from_cells_that_obey_them(fitted: Fitted) -> None:
    """Made once with a fixed seed; a cell's accuracy has a standard error of about 0.02."""
    laws = fitted.laws
    for n in PARAMETERS.values():
        for tokens in GRID.tokens:
            assert laws.trained(n, tokens) == pytest.approx(TRUE.trained(n, tokens), abs=0.05)
    for start in (0.05, 0.2, 0.5):
        for samples in (2000, 10_000):
            assert laws.reinforced(start, samples) == pytest.approx(TRUE.reinforced(start, samples), abs=0.06)
    assert [laws.kept(b) for b in GRID.budgets] == pytest.approx([TRUE.kept(b) for b in GRID.budgets], abs=0.04)
    for single in (0.2, 0.5, 0.8):
        assert laws.chosen(single, 16) == pytest.approx(TRUE.chosen(single, 16), abs=0.05)
    assert laws.spread == pytest.approx(TRUE.spread, abs=0.5) and laws.rival == pytest.approx(TRUE.rival, rel=0.2)
    assert laws.gamma == TRUE.gamma and len(fitted.draws) == 8


def test_where_the_loss_tells_little_accuracy_is_told_straight_by_tokens() -> None:
    straight = replace(TRUE, told_by="tokens")
    with resamples(2):
        cells = [replace(r, loss=2.0 + (i % 3)) for i, r in enumerate(made_up(GRID, straight))]
        laws = fit_laws(GRID, cells).laws
    assert laws.told_by == "tokens" and laws.size_power == TRUE.size_power
    for n in PARAMETERS.values():
        for tokens in GRID.tokens:
            assert laws.trained(n, tokens) == pytest.approx(straight.trained(n, tokens), abs=0.06)


def test_of_two_laws_as_good_the_lower_one_counts() -> None:
    assert (_teller(0.02, 0.03), _teller(0.0, 0.04), _teller(0.001, 0.039)) == ("both", "both", "both")
    assert (_teller(0.05, 0.11), _teller(0.11, 0.05)) == ("loss", "tokens")
    both, apart = replace(TRUE, told_by="both"), 0
    for n in PARAMETERS.values():
        for tokens in (5e4, 4e5, 3e6):
            told = [replace(TRUE, told_by=by).trained(n, tokens) for by in ("loss", "tokens")]  # type: ignore[arg-type]
            assert both.trained(n, tokens) == min(told)
            apart += abs(told[0] - told[1]) > 0.05
    assert apart, "the two differ somewhere"


def test_what_runs_that_scatter_solve_is_their_mean() -> None:
    """Against a million drawn losses: the mean's standard error is below 0.5 / 1000; four of them, and as much again
    for the five places of the quadrature."""
    scattered, draw = replace(TRUE, noise=0.1), np.random.default_rng(1)
    middle = -math.log(TRUE.link.midpoint) / STEEP
    for loss in (0.8 * middle, middle, 1.2 * middle):
        slope = STEEP * TRUE.link.exponent
        losses = loss * np.exp(0.1 * draw.standard_normal(1_000_000))
        mean = float((TRUE.link.ceiling / (1 + np.exp(slope * (losses - middle)))).mean())
        assert scattered.expected(loss) == pytest.approx(mean, abs=0.004)
    assert scattered.expected(0.8 * middle) < TRUE.solved(0.8 * middle), "above the middle scatter costs"


def test_a_lucky_run_ends_below_the_law_of_the_loss() -> None:
    laws = replace(TRUE, noise=0.1, told_by="loss")
    n, tokens = PARAMETERS["a"], GRID.tokens[1]
    assert laws.run(n, tokens, 2.0) == pytest.approx(laws.solved(laws.loss.loss(n, tokens) * math.exp(-0.2)))
    assert laws.run(n, tokens, -1.0) < laws.run(n, tokens, 0.0) < laws.run(n, tokens, 1.0)
    straight = replace(laws, told_by="tokens")
    assert straight.run(n, tokens, 2.0) == straight.run(n, tokens, -2.0) == straight.trained(n, tokens)


def test_a_budget_that_is_asked_for_is_quoted(records: list[Record]) -> None:
    with resamples(3):
        asked = analyse(GRID, records, 7e12)
        assert asked.quoted().total == 7e12 and asked.quoted("usd") in asked.ladders["usd"]
        with pytest.raises(UserError, match=r"do not pay for the smallest model.*--flops"):
            analyse(GRID, records, 1e3)


def test_an_arm_of_one_run_has_the_interval_of_its_point_and_more_runs_a_wider_one(records: list[Record]) -> None:
    split = Split("c", 8e5, 0.0, 256, 4, 1.0, 0.0, 1.0, 0.5)
    runs = [Run(record, record.at(256, 4), 1.0) for record in records[-3:]]
    alone, three = Arm("alone", split, tuple(runs[:1])).accuracy, Arm("three", split, tuple(runs)).accuracy
    assert (alone.value, alone.low, alone.high) == pytest.approx(astuple(runs[0].point.accuracy)[:3], abs=1e-3)
    assert three.high - three.low > alone.high - alone.low, "these three differ in steps of GRPO"


def test_every_constant_has_an_interval_around_it(fitted: Fitted) -> None:
    found = constants(fitted)
    assert {"loss.E", "link.midpoint", "gain.ceiling", "gamma", "thinking.exponent", "rival"} <= found.keys()
    assert all(one.low <= one.high for one in found.values())
    assert found["loss.beta"].high > found["loss.beta"].low


def test_prices_are_those_that_the_cells_paid(records: list[Record], prices: dict[str, Prices]) -> None:
    """Lines over a measured pass@1, whose standard error is about 0.02."""
    costs, n = prices["b"], PARAMETERS["b"]
    assert costs.token == pytest.approx(6.0 * n)
    for tokens in GRID.tokens:
        start = TRUE.trained(n, tokens)
        assert costs.sample.at(start) == pytest.approx(learning(n, start), rel=0.05)
    record = next(r for r in records if r.cell.id == "b-t200000-g30")
    single = record.best_single.accuracy.value
    for budget, votes in ((16, 1), (256, 16)):
        point = record.at(budget, votes)
        assert costs.answering(budget, votes, single) == pytest.approx(GRID.answers * point.flops, rel=0.05)
        whole = 6.0 * n * 200_000 + record.reinforcement.flops + GRID.answers * point.flops
        assert total(GRID, record, point, "flops") == pytest.approx(whole)


def test_a_price_never_leaves_what_was_paid() -> None:
    line = Line.through([0.1, 0.5, 0.9], [2.0, 4.0, 6.0])
    assert [line.at(a) for a in (0.0, 0.1, 0.3, 1.0)] == pytest.approx([2.0, 2.0, 3.0, 6.0])
    assert Line.through([0.5, 0.5], [2.0, 4.0]).at(0.9) == 3.0, "models alike tell no slope"


def test_the_best_split_is_the_best_of_all_there_are(prices: dict[str, Prices]) -> None:
    """Against a blind search over ten thousand splits that the budget pays for."""
    budget, draw, world = 4e12, np.random.default_rng(2), World.of(TRUE, BOUNDS.votes)
    found = best(world, prices, budget, BOUNDS)
    assert found is not None and found.cost <= budget * (1 + 1e-9)
    assert found.accuracy == pytest.approx(predicted(TRUE, prices[found.size], found), abs=0.02)
    blind = 0.0
    for _ in range(10_000):
        size, votes = str(draw.choice(list(prices))), int(draw.choice(BOUNDS.votes))
        thinking = int(draw.choice(BOUNDS.budgets))
        tokens, samples = draw.uniform(*BOUNDS.tokens), draw.uniform(0, BOUNDS.samples)
        costs = prices[size]
        start = TRUE.trained(costs.parameters, tokens)
        single = TRUE.reinforced(start, samples)
        training = tokens * costs.token + samples * costs.sample.at(start)
        if training + costs.answering(thinking, votes, single) <= budget:
            blind = max(blind, world.vote[votes](TRUE.kept(thinking) * single))
    assert found.accuracy >= blind - 0.005


@cache
def true_prices() -> dict[str, Prices]:
    return prices_of(GRID, made_up(GRID), "flops")


@given(st.floats(5e11, 3e13), st.sampled_from(LAWS), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_split_costs_what_its_own_model_costs_within_the_budget(budget: float, law: Law, free: bool) -> None:
    costs = true_prices()
    split = best(World.of(TRUE, BOUNDS.votes), costs, budget, BOUNDS if free else BOUNDS.only(law))
    if split is None:
        return
    size = costs[split.size]
    start = TRUE.trained(size.parameters, split.tokens)
    single = TRUE.reinforced(start, split.samples)
    assert split.cost <= budget * (1 + 1e-9)
    assert split.thinking == pytest.approx(size.answering(split.budget, split.votes, single))
    assert split.reinforcement == pytest.approx(split.samples * size.sample.at(start))


def test_more_money_is_never_worse_and_too_little_buys_nothing(prices: dict[str, Prices]) -> None:
    world = World.of(TRUE, BOUNDS.votes)
    splits = [best(world, prices, budget, BOUNDS) for budget in (1e12, 3e12, 1e13, 3e13)]
    accuracies = [split.accuracy for split in splits if split is not None]
    assert len(accuracies) == 4 and accuracies == sorted(accuracies)
    assert best(world, prices, 1e9, BOUNDS) is None
    assert recommend([world], prices, 1e9, BOUNDS) is None


@pytest.mark.parametrize("law", LAWS)
def test_all_on_one_law_leaves_the_others_at_their_least(law: str, prices: dict[str, Prices]) -> None:
    world, budget = World.of(TRUE, BOUNDS.votes), 6e12
    split = best(world, prices, budget, BOUNDS.only(law))  # type: ignore[arg-type]
    free = best(world, prices, budget, BOUNDS)
    assert split is not None and free is not None and split.accuracy <= free.accuracy + 1e-9
    assert law == "training" or split.tokens == GRID.tokens[0]
    assert law == "reinforcement" or split.samples == 0
    assert law == "thinking" or (split.votes, split.budget) == (1, GRID.budgets[-1])


def test_a_recommendation_says_how_sure_it_is(fitted: Fitted, prices: dict[str, Prices]) -> None:
    worlds = [World.of(laws, BOUNDS.votes) for laws in (fitted.laws, *fitted.draws)]
    found = recommend(worlds, prices, 4e12, BOUNDS)
    assert found is not None
    assert sum(found.shares[law].value for law in LAWS) == pytest.approx(1.0)
    assert all(one.low <= one.value <= one.high for one in (*found.shares.values(), found.accuracy))
    assert found.runs.low <= found.runs.value == found.accuracy.value <= found.runs.high
    loud = [replace(world, laws=replace(world.laws, noise=0.3)) for world in worlds[:1]]
    scattered = recommend(loud, prices, 4e12, BOUNDS)
    assert scattered is not None and scattered.runs.high - scattered.runs.low > found.runs.high - found.runs.low
    assert sum(found.sizes.values()) == pytest.approx(1.0)
    assert max(found.next_dollar[law].value for law in LAWS) > 0
    truth = World.of(TRUE, BOUNDS.votes)
    reached, most = predicted(TRUE, prices[found.split.size], found.split), best(truth, prices, 4e12, BOUNDS)
    assert most is not None and reached > most.accuracy - 0.03, "by the true laws the split is nearly the best one"


def test_the_frontier_has_no_point_that_a_cheaper_one_equals(records: list[Record]) -> None:
    placed = [
        Placed(r, p, total(GRID, r, p, "flops"), total(GRID, r, p, "usd")) for r in records for p in r.points
    ]  # fmt: skip
    best_ones = pareto(placed, "flops")
    for one in placed:
        better = [b for b in best_ones if b.flops <= one.flops and b.point.accuracy.value >= one.point.accuracy.value]
        assert better, "every point has one of the frontier that is as good and no dearer"
    costs = [one.flops for one in best_ones]
    assert costs == sorted(costs) and len(best_ones) < len(placed)


def test_an_analysis_is_plain_values_with_all_that_was_measured(records: list[Record], analysis: Analysis) -> None:
    found = to_json(GRID, records, analysis)
    assert json.loads(json.dumps(found)) is not None
    assert len(found["cells"]) == len(records) and len(found["points"]) == len(records) * 15
    rungs = [one["total"] for one in found["recommended"]["flops"]]
    assert len(rungs) >= RUNGS - 1, "the cheapest measured way may be cheaper than the price fitted for it"
    assert found["quoted"]["flops"]["total"] == rungs[-1 - RUNGS // 2] and found["quoted"].keys() == {"flops", "usd"}
    assert any(point["on_frontier_usd"] for point in found["points"])


def test_a_grid_that_solves_nothing_says_so(records: list[Record]) -> None:
    dull = [replace(r, points=tuple(_nothing(p) for p in r.points)) for r in records]
    with pytest.raises(UserError, match=r"0 models of this grid solve 5% .* raise tokens"):
        fit_laws(GRID, dull)


def _nothing(point):  # type: ignore[no-untyped-def]
    return replace(point, accuracy=replace(point.accuracy, value=0.0))


def test_time_left_follows_the_pace_so_far(records: list[Record]) -> None:
    cells = [record.cell for record in records[:4]]
    clock = Clock(dict.fromkeys(cells, 10.0))
    assert clock.total == clock.left(cells) == 40.0
    clock.ended(cells[0], 20.0)
    assert clock.left(cells[1:]) == pytest.approx(60.0)
