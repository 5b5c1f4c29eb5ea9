"""The driver on a small engine: nothing outlives an early stop, every token is counted, the same seed ends the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from raison.engine.engine import Engine
from raison.engine.sequence import Event, sample_seed
from raison.records import Completion
from raison.think.confidence import Gauge, token_confidence
from raison.think.drive import Heard, drive
from raison.think.engine_sampler import EngineSampler, SharedSteps, branch_params
from raison.think.parse import VOTES, Context, parse_strategy
from raison.think.strategy import Branch, Outcome, Strategy
from tests.engine.small import make_engine, params, prompt

FIELDS = {"max_samples": 6, "paths": 4, "fan": 2, "step_tokens": 8, "warmup": 2, "price": 0.2, "window": 3}


def make(name: str) -> Strategy:
    way = VOTES[name]
    wish = {key: value for key, value in FIELDS.items() if key in way.fields}
    context = Context(max_tokens=48, score=lambda said: float(len(said.answer) % 3 == 0), checker=True)
    return parse_strategy({"vote": name, **wish}, context)


def at_rest(engine: Engine) -> bool:
    stats = engine.stats
    return stats.running == stats.waiting == 0 and stats.pages_free == stats.pages_total and not engine.step()


def run(engine: Engine, names: Sequence[str], seed: int = 3) -> list[Outcome]:
    async def all_at_once() -> list[Outcome]:
        steps = SharedSteps(engine)
        drives = [
            drive(make(name), steps.sampler(prompt(9, i), params(seed + i, max_tokens=48, thinking_budget=20)))
            for i, name in enumerate(names)
        ]
        outcomes = await asyncio.gather(*drives)
        assert not steps.owners
        return list(outcomes)

    return asyncio.run(all_at_once())


@pytest.mark.parametrize("name", sorted(VOTES))
def test_every_sampled_token_is_counted_and_nothing_runs_on(name: str) -> None:
    engine = make_engine()
    (outcome,) = run(engine, [name])
    assert outcome.tokens == engine.stats.tokens_sampled > 0
    assert outcome.tokens == sum(branch.tokens for branch in outcome.branches)
    assert at_rest(engine)


@pytest.mark.usefixtures("native_code")
def test_interleaved_drives_end_as_they_do_alone() -> None:
    names = sorted(VOTES)
    together = run(make_engine(), names)
    for i, name in enumerate(names):
        engine = make_engine()
        sampler = EngineSampler(engine, prompt(9, i), params(3 + i, max_tokens=48, thinking_budget=20))
        alone = asyncio.run(drive(make(name), sampler))
        assert facts(alone) == facts(together[i]), name


def facts(outcome: Outcome) -> tuple[Any, ...]:
    """All but the clock, and how far a branch had come when it was cancelled."""
    ended = [(b.branch, b.tokens, b.answer) for b in outcome.branches if b.finish != "cancelled"]
    return outcome.chosen, outcome.why, outcome.tally, ended


def test_the_same_seed_ends_the_same_and_another_does_not() -> None:
    first, again, other = (run(make_engine(), ["self-consistency"], seed)[0] for seed in (3, 3, 4))
    assert first.branches == again.branches and first.tally == again.tally
    assert first.branches != other.branches


def test_branches_are_the_samples_that_the_engine_would_draw() -> None:
    asked = params(5, max_tokens=30)
    (outcome,) = (asyncio.run(drive(make("self-consistency"), EngineSampler(make_engine(), prompt(9, 0), asked))),)
    (group,) = make_engine().generate([prompt(9, 0)], asked, 6)
    assert [branch.answer for branch in outcome.branches] == [completion.answer for completion in group]
    assert [branch.tokens for branch in outcome.branches] == [len(completion.token_ids) for completion in group]


def test_a_branch_goes_on_after_its_prefix() -> None:
    """Greedily: a text cut anywhere and gone on from is the text, limits included."""
    asked = params(1, max_tokens=40, thinking_budget=12, min_thinking=7, answer_tokens=9, temperature=0.0)
    (whole,) = make_engine().generate([prompt(9, 2)], asked)[0]
    for cut in (1, 5, 12, 13, 15):
        sampler = EngineSampler(make_engine(), prompt(9, 2), asked)
        rest = asyncio.run(only(sampler, Branch(1, whole.token_ids[:cut])))
        assert whole.token_ids[:cut] + rest == whole.token_ids


async def only(sampler: EngineSampler, branch: Branch) -> tuple[int, ...]:
    await sampler.start([branch])
    while True:
        for _, event in await sampler.events():
            if event.finished is not None:
                return event.finished.token_ids


def test_a_step_keeps_within_the_limits_that_are_left() -> None:
    asked, engine = params(1, max_tokens=40, min_tokens=20, thinking_budget=12, min_thinking=10), make_engine()
    found = branch_params(asked, Branch(2, tuple(range(50, 58)), 5), engine)
    assert (found.max_tokens, found.min_tokens, found.thinking_budget, found.min_thinking) == (5, 5, 4, 2)
    closed = (*range(50, 54), engine.tokenizer.think_close or 0, 60, 61)
    found = branch_params(replace(asked, min_thinking=0, answer_tokens=9), Branch(3, closed), engine)
    assert (found.max_tokens, found.answer_tokens, found.seed) == (33, 7, sample_seed(asked.seed, 3))


def test_the_engine_tells_what_confidence_asks_for() -> None:
    """A sample's least confidence, from events as they come, is that of its log-probabilities at the end."""

    async def gauged() -> tuple[Gauge, Completion]:
        gauge, sampler = Gauge(4), EngineSampler(make_engine(), prompt(9, 0), params(1, thinking_budget=9))
        await sampler.start([Branch(0)])
        while True:
            for _, event in await sampler.events():
                if confidence := token_confidence(event):
                    gauge.take(confidence)
                if event.finished is not None:
                    return gauge, event.finished

    gauge, said = asyncio.run(gauged())
    drawn = [logprob for logprob in said.logprobs if logprob]
    windows = [sum(drawn[i : i + 4]) / 4 for i in range(len(drawn) - 3)]
    assert gauge.least == pytest.approx(min(windows), abs=1e-5)


def test_a_caller_who_goes_away_leaves_nothing_running() -> None:
    engine = make_engine()

    def leave(heard: Heard) -> None:
        raise ConnectionError("the client has gone")

    sampler = EngineSampler(engine, prompt(9, 0), params(1))
    with pytest.raises(ConnectionError):
        asyncio.run(drive(make("self-consistency"), sampler, once(leave)))
    assert at_rest(engine)


def once(leave: Any) -> Any:
    """Called the first time alone, as a broken connection is noticed once."""
    calls: list[Heard] = []

    def on_events(heard: Heard) -> None:
        calls.append(heard)
        if len(calls) == 1:
            leave(heard)

    return on_events


def test_a_drive_that_is_cancelled_leaves_nothing_running() -> None:
    engine = make_engine()

    async def stopped() -> None:
        sampler = EngineSampler(engine, prompt(9, 0), params(1))
        task = asyncio.create_task(drive(make("self-consistency"), sampler))
        while not engine.stats.running:  # the very first moment at which there is something to leave behind
            assert not task.done()
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stopped())
    assert at_rest(engine)


def test_others_sequences_keep_their_events() -> None:
    """Somebody else's sequence on the same engine goes on beside a drive."""
    engine = make_engine()
    (number,) = engine.submit(prompt(7, 5), params(2, max_tokens=300))
    run(engine, ["majority"])
    events: list[Event] = []
    while engine.stats.running:
        events += engine.step()
    assert {event.sequence_id for event in events} == {number}


def test_a_reward_that_fails_leaves_nothing_running() -> None:
    """All samples end in the same step, and each would fail its own way."""
    engine = make_engine()

    def fail(said: Completion) -> float:
        raise ZeroDivisionError("reward")

    strategy = parse_strategy({"vote": "best-of-n", "max_samples": 6, "width": 6}, Context(30, score=fail))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(drive(strategy, EngineSampler(engine, prompt(9, 0), params(1, max_tokens=12, thinking_budget=2))))
    assert at_rest(engine)
