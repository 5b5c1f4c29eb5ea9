"""Turns in native code are the four verbs: the same tokens, log-probabilities and ends, guesses and pages."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from raison.engine.engine import Engine
from raison.engine.sequence import SamplingParams, Stats
from raison.engine.settings import Draft, EngineSettings
from raison.errors import NumericalError
from raison.records import Completion
from tests.engine.small import SPEC, TOKENIZER, prompt
from tests.shapes import random_model

pytestmark = pytest.mark.usefixtures("native_code")
MODEL = random_model(SPEC)
EAGER = (min(TOKENIZER.stops), 6.0)
"""Ends many a text early."""


def engine_of(turns: bool, **settings: Any) -> Engine:
    sizes: dict[str, Any] = {"page_size": 4, "cache_tokens": 2048, "max_batch": 8, "prefill_chunk": 64}
    draft = Draft(MODEL, TOKENIZER) if settings.get("speculation") == "draft" else None
    engine = Engine(MODEL, TOKENIZER, EngineSettings(**{**sizes, **settings}), draft)
    if not turns:
        engine._turns = None
    return engine


def requests(count: int, **more: Any) -> tuple[list[list[int]], list[SamplingParams]]:
    numbers = random.Random(count)
    asked = [
        SamplingParams(
            temperature=numbers.choice((0.0, 0.6, 1.0)), max_tokens=(most := numbers.randint(4, 60)), seed=i,
            thinking_budget=numbers.choice((None, 5, 30)), answer_tokens=numbers.randint(1, 40),
            top_k=numbers.choice((0, 0, 7)), top_p=numbers.choice((1.0, 0.9, 0.4)),
            min_p=numbers.choice((0.0, 0.0, 0.1)), logit_bias=numbers.choice(((), (EAGER, (77, 3.0), (78, -math.inf)))),
            min_tokens=numbers.choice((0, most // 2)), min_thinking=numbers.choice((0, 4)),
            ignore_eos=numbers.random() < 0.2, **more,
        )
        for i in range(count)
    ]  # fmt: skip
    return [prompt(numbers.choice((3, 5, 17, 30)), i % 4) for i in range(count)], asked


def said(groups: list[list[Completion]]) -> list[tuple[Any, ...]]:
    return [
        (c.token_ids, c.logprobs, c.finish_reason, c.forced_close, c.thinking_tokens, c.answer_tokens)
        for group in groups
        for c in group
    ]


def counted(stats: Stats) -> tuple[int, ...]:
    return stats.tokens_sampled, stats.tokens_guessed, stats.guesses_right, stats.steps, stats.preemptions


@pytest.mark.parametrize("speculation", ["none", "mtp", "lookup", "draft"])
def test_turns_are_the_four_verbs(variant: str, speculation: str) -> None:
    """Guesses too where pages are plenty, but for what stood before in places that a module leaves out."""
    prompts, asked = requests(24)
    found, counts = [], []
    for turns in (False, True):
        engine = engine_of(turns, speculation=speculation)
        found.append(said(engine.generate(prompts, asked, 2)))
        counts.append(counted(engine.stats))
        assert engine.stats.pages_free == engine.stats.pages_total
    assert found[0] == found[1]
    assert counts[0] == pytest.approx(counts[1], rel=0.01, abs=0 if speculation != "mtp" else 10)
    assert (counts[1][1] > 50) == (speculation != "none")


@pytest.mark.parametrize("speculation", ["none", "mtp", "lookup", "draft"])
def test_turns_in_a_cache_that_is_too_small(speculation: str) -> None:
    prompts, asked = requests(16)
    plenty = said(engine_of(False).generate(prompts, asked, 2))
    engine = engine_of(True, cache_tokens=160, speculation=speculation)
    assert said(engine.generate(prompts, asked, 2)) == plenty
    assert engine.stats.preemptions > 0 and not engine._scheduler.pool.references.any()


def test_what_turns_do_not_serve_is_done_by_verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request that is told more of its places, among others."""
    prompts, asked = requests(6)
    asked[2] = SamplingParams(top_logprobs=2, max_tokens=30, seed=9)
    assert said(engine_of(True).generate(prompts, asked)) == said(engine_of(False).generate(prompts, asked))
    calls: list[int] = []
    engine = engine_of(True)
    native = engine._turns._native  # type: ignore[union-attr]
    take = native.take
    monkeypatch.setattr(native, "take", lambda *a, **k: calls.append(taken := take(*a, **k)) or taken)
    filtered = SamplingParams(
        temperature=0.6, top_p=0.95, logit_bias=((77, 1.0),), min_tokens=60, max_tokens=60, seed=5
    )
    engine.generate(prompts[:1], replace(filtered, answer_tokens=60))
    assert sum(calls) > 40 and max(calls) > 1  # many turns a call
    calls.clear()
    engine.generate(prompts[:1], SamplingParams(max_tokens=60, top_logprobs=2, seed=5))
    assert not calls


@pytest.mark.parametrize("speculation", ["none", "mtp", "lookup"])
def test_what_is_told_is_told_of_every_token(speculation: str) -> None:
    """However many turns a call takes: the same events; a stop string ends a sequence where it stands."""
    prompts, asked = requests(8)
    stopped = [
        replace(one, thinking_budget=2, min_thinking=0, max_tokens=60, answer_tokens=50, stop=("4", "0"))
        for one in asked
    ]
    ends = [group[0] for group in engine_of(False).generate(prompts, stopped)]
    assert sum(one.finish_reason == "stop" and one.answer_tokens > 1 for one in ends) >= 4
    for params in (asked, stopped):
        one, other = engine_of(True, speculation=speculation), engine_of(False)
        assert events(one, prompts, params) == events(other, prompts, params)
        assert one.stats.pages_free == one.stats.pages_total


def events(engine: Engine, prompts: list[list[int]], asked: list[SamplingParams]) -> dict[int, list[tuple[Any, ...]]]:
    """Of each request, what was told of it, in order."""
    numbers = [engine.submit(ids, params)[0] for ids, params in zip(prompts, asked, strict=True)]
    told: dict[int, list[tuple[Any, ...]]] = {number: [] for number in numbers}
    left = len(numbers)
    while left:
        for e in engine.step():
            end = None if e.finished is None else said([[e.finished]])
            told[e.sequence_id].append((e.token_id, e.text, e.thinking, e.logprob, end))
            left -= e.finished is not None
    return told


def test_logits_that_are_not_finite_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(SPEC)
    engine = Engine(model, TOKENIZER, EngineSettings(cache_tokens=1024, max_batch=2))
    engine.submit(prompt(9, 1), SamplingParams(max_tokens=40))
    while not engine.step():
        pass
    model.norm.weight.data.fill_(float("nan"))
    engine.update_weights()
    with pytest.raises(NumericalError, match="not finite"):
        engine.step()


def test_a_row_waits_for_pages_that_guesses_want() -> None:
    """Guesses take no page that a running sequence may need: they are fewer then, and tokens go on."""
    engine = engine_of(True, cache_tokens=64, speculation="mtp", max_batch=2)
    asked = SamplingParams(max_tokens=50, answer_tokens=50, seed=1)
    (group,) = engine.generate([prompt(9, 1)], asked)
    assert said([group]) == said(engine_of(False).generate([prompt(9, 1)], asked))
    assert np.all(engine._slots.pages <= 16)
