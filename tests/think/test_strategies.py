"""Strategies as pure machines: scripted samples in, orders and an outcome out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raison.engine.sequence import Event
from raison.errors import UserError
from raison.records import Completion
from raison.think.confidence import Confidence, DeepConf, Gauge, bar_of
from raison.think.drive import drive
from raison.think.equivalence import SameForm
from raison.think.parse import VOTES, Context, parse_strategy
from raison.think.search import Search, Shape
from raison.think.strategy import Branch, Outcome, Strategy
from tests.think.scripted import Say, Scripted, end, said

UNANIMOUS = ["7"] * 16
SPLIT = ["7", "8"] * 8
NONE = [""] * 16
VOTING = [name for name, way in VOTES.items() if not way.judged and "max_samples" in way.fields]


def answers(given: list[str], tokens: int = 10) -> Say:
    return lambda branch: (given[branch.number], tokens + branch.number)


def run(strategy: Strategy, say: Say) -> tuple[Outcome, Scripted]:
    sampler = Scripted(say)
    outcome = asyncio.run(drive(strategy, sampler))
    assert not sampler.running, "a branch outlived its drive"
    assert outcome.tokens == sampler.told, "a sampled token was not counted"
    assert sorted(report.branch for report in outcome.branches) == [branch.number for branch in sampler.started]
    return outcome, sampler


def make(name: str, context: Context | None = None, **fields: Any) -> Strategy:
    return parse_strategy({"vote": name, **fields}, context or Context(max_tokens=100))


@pytest.mark.parametrize("name", VOTING)
def test_a_unanimous_vote_elects_its_answer(name: str) -> None:
    outcome, _ = run(make(name), answers(UNANIMOUS))
    assert outcome.completion is not None and outcome.completion.answer == "7"
    assert len(outcome.tally.classes) == 1 and outcome.tally.leader == 0
    assert outcome.why


@pytest.mark.parametrize(
    ("name", "drawn"),
    [("self-consistency", 16), ("majority", 9), ("adaptive", 4), ("windows", 5), ("confidence", 4), ("auto", 3)],
)
def test_how_many_samples_agreement_needs(name: str, drawn: int) -> None:
    """9 of 16 cannot be overtaken; 1 - 2^-(n+1) > 0.95 from n = 4; a window has 5; a fourth is not worth its price."""
    assert len(run(make(name), answers(UNANIMOUS))[1].started) == drawn


@pytest.mark.parametrize("name", VOTING)
def test_a_split_vote_hears_all_it_may(name: str) -> None:
    outcome, sampler = run(make(name), answers(SPLIT))
    assert len(sampler.started) == 16 or name == "auto"
    assert outcome.completion is not None and outcome.completion.answer in ("7", "8")
    assert len(outcome.tally.classes) == 2


@pytest.mark.parametrize("name", VOTING)
def test_samples_without_an_answer_have_no_voice(name: str) -> None:
    outcome, _ = run(make(name), answers(NONE))
    assert outcome.tally.leader is None and not outcome.tally.classes
    assert outcome.chosen == 0, "the first sample is shown all the same"
    one = ["", "", "", "5", *[""] * 12]
    outcome, _ = run(make(name, max_samples=4), answers(one))
    assert outcome.chosen == 3


@pytest.mark.parametrize("given", [UNANIMOUS, SPLIT, ["1", "2", "3", "3"] * 4, ["4"] * 5 + ["5"] * 11])
def test_majority_is_self_consistency_for_less(given: list[str]) -> None:
    whole, _ = run(make("self-consistency"), answers(given))
    sooner, _ = run(make("majority"), answers(given))
    assert whole.completion is not None and sooner.completion is not None
    assert whole.completion.answer == sooner.completion.answer
    assert sooner.tokens <= whole.tokens


def test_equivalent_answers_vote_together_and_the_commonest_wording_speaks() -> None:
    outcome, _ = run(make("self-consistency", max_samples=5), answers(["3", "1/2", "0.5", "2/4", "0.5"]))
    assert outcome.completion is not None and outcome.completion.answer == "0.5"
    assert outcome.tally.classes[0].branches == (1, 2, 3, 4)


def test_a_tie_goes_to_the_earliest_branch_whoever_ends_first() -> None:
    given = ["7", "8"]
    for tokens in ((5, 9), (9, 5)):
        outcome, _ = run(make("self-consistency", max_samples=2), lambda b, t=tokens: (given[b.number], t[b.number]))
        assert outcome.chosen == 0


def test_one_sample_is_a_vote_too() -> None:
    for name in VOTING:
        assert run(make(name, max_samples=1), answers(["7"]))[0].chosen == 0


def checked(completion: Completion) -> float:
    return float(completion.answer == "7")


def test_the_first_accepted_sample_ends_a_search_with_a_checker() -> None:
    context = Context(100, score=checked, checker=True)
    given = ["1", "2", "3", "4", "5", "7", *["9"] * 10]
    for name in ("best-of-n", "weighted"):
        outcome, sampler = run(make(name, context, width=4), answers(given))
        assert outcome.chosen == 5
        assert sampler.cancelled == [6, 7, 8], "those under way beside it die"
        assert len(sampler.started) == 9
    outcome, sampler = run(make("best-of-n", context), answers(["1"] * 16))
    assert len(sampler.started) == 16 and outcome.chosen == 0 and outcome.tally.leader is None


def test_a_reward_chooses_one_and_a_weighted_vote_a_class() -> None:
    rewards = {"1": 0.9, "2": 0.5, "3": 0.1}
    context = Context(100, score=lambda completion: rewards[completion.answer])
    given = ["2", "1", "2", "3"]
    best, _ = run(make("best-of-n", context, max_samples=4), answers(given))
    weighted, _ = run(make("weighted", context, max_samples=4), answers(given))
    assert best.completion is not None and best.completion.answer == "1"
    assert weighted.completion is not None and weighted.completion.answer == "2"
    assert weighted.tally.classes[0].weight == pytest.approx(1.0)
    with pytest.raises(UserError, match="reward function"):
        run(make("best-of-n", Context(100, score=lambda _: -1.0)), answers(given * 4))


def test_gauge_is_the_lowest_mean_over_whole_windows() -> None:
    gauge, values = Gauge(3), [0.5, 4.0, 1.0, 1.5, 0.25, 3.0]
    for value in values:
        gauge.take(value)
    windows = [sum(values[i : i + 3]) / 3 for i in range(4)]
    assert gauge.least == pytest.approx(min(windows))
    short = Gauge(9)
    short.take(2.0)
    assert short.least == 2.0 and short.lowest == float("inf")


def test_the_bar_keeps_the_share_it_is_asked_to() -> None:
    confidences = [float(n) for n in range(10)]
    for keep in (0.1, 0.5, 0.9, 1.0):
        assert sum(c >= bar_of(confidences, keep) for c in confidences) == round(10 * keep)


def token(confidence: float) -> Event:
    return Event(0, 5, None, True, None, -0.1, ((5, -confidence), (6, -confidence)))


def test_deepconf_ends_weak_samples_early_and_weighs_the_others() -> None:
    strategy = DeepConf(Confidence(warmup=2, window=2, keep=0.5, consensus=1.0), 4, SameForm())
    assert [branch.number for branch in strategy.begin().start] == [0, 1]
    for branch, confidence in ((0, 4.0), (1, 2.0)):
        for _ in range(3):
            strategy.hear(branch, token(confidence))
    strategy.hear(0, end("7"))
    orders = strategy.hear(1, end("8"))
    assert [branch.number for branch in orders.start] == []
    outcome = strategy.outcome
    assert outcome is not None, "the bar is the surer one's: the other has no voice, and the leader all the weight"
    assert outcome.chosen == 0 and outcome.tally.classes[0].weight == 4.0


def test_deepconf_cancels_below_the_bar() -> None:
    strategy = DeepConf(Confidence(warmup=2, window=2, keep=1.0, consensus=1.0), 4, SameForm())
    strategy.begin()
    for branch, answer in ((0, "7"), (1, "8")):
        for _ in range(3):
            strategy.hear(branch, token(3.0))
        orders = strategy.hear(branch, end(answer))
    assert [branch.number for branch in orders.start] == [2, 3]
    assert not strategy.hear(2, token(1.0)).cancel, "one token is no window"
    assert strategy.hear(2, token(1.0)).cancel == (2,)
    strategy.hear(2, Event(0, None, None, False, said("", 2, "cancelled")))
    strategy.hear(3, token(3.0))
    strategy.hear(3, token(3.0))
    strategy.hear(3, end("8"))
    outcome = strategy.outcome
    assert outcome is not None and outcome.completion is not None and outcome.completion.answer == "8"
    assert [report.finish for report in outcome.branches] == ["stop", "stop", "cancelled", "stop"]


def grown(branch: Branch) -> Completion:
    """A step of four tokens that only says who drew it; after three steps a path ends with an answer."""
    last = len(branch.prefix) >= 8
    ids = (branch.number,) * 4
    completion = said("7" if last else "", 4, "stop" if last else "length")
    return Completion(**{**_fields(completion), "token_ids": ids, "thinking": f"<{branch.number}>"})


def _fields(completion: Completion) -> dict[str, Any]:
    return {name: getattr(completion, name) for name in completion.__slots__}


def search(trees: int) -> tuple[Outcome, list[list[Branch]]]:
    """Eight paths, fan 4, scored by the number of the branch that drew the last step: the highest are the best."""
    shape = Shape(paths=8, fan=4, trees=trees, step_tokens=4, most_steps=9)
    strategy = Search(shape, 100, lambda path: float(path.token_ids[-1]), SameForm())
    rounds, orders = [], strategy.begin()
    while orders.start:
        rounds.append(list(orders.start))
        for branch in rounds[-1]:
            assert branch.max_tokens == 4
            orders = strategy.hear(branch.number, Event(0, 1, None, True, grown(branch)))
    assert strategy.outcome is not None
    return strategy.outcome, rounds


@pytest.mark.parametrize(("trees", "kept"), [(1, {7, 6}), (2, {3, 7})])
def test_search_goes_on_from_the_best_paths(trees: int, kept: set[int]) -> None:
    """Beam search keeps the two best of all, DVTS the best of each half."""
    outcome, rounds = search(trees)
    assert [len(branches) for branches in rounds] == [8, 8, 8]
    assert {branch.prefix[-1] for branch in rounds[1]} == kept
    assert outcome.completion is not None and outcome.completion.answer == "7"
    assert outcome.chosen == 23
    assert len(outcome.completion.token_ids) == 12, "a path's steps are told as one completion"
    assert outcome.completion.thinking.endswith("<23>") and outcome.completion.thinking.count("<") == 3
    assert outcome.tokens == 24 * 4


def test_a_search_that_never_ends_is_bounded() -> None:
    strategy = Search(Shape(4, 2, 1, 4, most_steps=3), 100, lambda path: 1.0, SameForm())
    outcome, sampler = run(strategy, lambda branch: ("", 4))
    assert outcome.chosen is not None
    endless = Search(Shape(4, 2, 1, 4, most_steps=3), 100, lambda path: 1.0, SameForm())
    orders, rounds = endless.begin(), 0
    while orders.start:
        rounds += 1
        for branch in orders.start:
            orders = endless.hear(branch.number, Event(0, 1, None, True, said("", 4, "length")))
    assert rounds == 3 and endless.outcome is not None and endless.outcome.tokens == 3 * 4 * 4
    assert len(sampler.started) == 4


@pytest.mark.parametrize(
    ("mapping", "named"),
    [
        ({"vote": "autto"}, "strategy.vote"), ({"vote": 3}, "strategy.vote"),
        ({"vote": "auto", "max_samples": 0}, "strategy.max_samples"),
        ({"vote": "auto", "max_samples": 65}, "strategy.max_samples"),
        ({"vote": "auto", "max_samples": True}, "strategy.max_samples"),
        ({"vote": "auto", "max_samples": 2.5}, "strategy.max_samples"),
        ({"vote": "auto", "window": 5}, "strategy.window"), ({"vote": "auto", "price": -1}, "strategy.price"),
        ({"vote": "auto", "price": float("nan")}, "strategy.price"),
        ({"vote": "adaptive", "certainty": "high"}, "strategy.certainty"),
        ({"vote": "best-of-n"}, "best-of-n"), ({"vote": "beam", "paths": 6}, "strategy.paths"),
        ({"vote": "dvts", "paths": 128}, "strategy.paths"),
    ],
)  # fmt: skip
def test_a_strategy_that_makes_no_sense_is_named(mapping: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        parse_strategy(mapping, Context(max_tokens=100))


def test_auto_is_what_nothing_means() -> None:
    assert run(parse_strategy({}, Context(100)), answers(UNANIMOUS))[0].chosen == 0
