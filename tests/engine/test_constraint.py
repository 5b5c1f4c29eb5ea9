"""Biases, minimums, texts without an end, and the likeliest tokens of a place."""

from __future__ import annotations

import math
from typing import Any

import pytest

from raison.engine.grammar import Grammar
from raison.engine.sequence import Event, SamplingParams
from raison.errors import UserError
from raison.records import Completion
from tests.engine.small import TOKENIZER, make_engine, params, prompt

STOP = min(TOKENIZER.stops)
CLOSE = TOKENIZER.think_close
assert CLOSE is not None
WAYS = [{}, {"kernels": "torch"}, {"speculation": "mtp"}]


def one(seed: int, settings: dict[str, Any] | None = None, **more: Any) -> Completion:
    ((found,),) = make_engine(**settings or {}).generate([prompt(9, seed)], params(seed, **more))
    return found


def told(ids: list[int], asked: SamplingParams, **settings: Any) -> list[Event]:
    return list(make_engine(**settings).stream(ids, asked))


@pytest.mark.parametrize("settings", WAYS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_bias_decides_what_is_drawn_and_not_what_is_told_of_it(settings: dict[str, Any], temperature: float) -> None:
    wanted = one(1, settings, temperature=temperature, logit_bias=((77, 200.0),), max_tokens=4)
    assert wanted.token_ids == (77,) * 4
    free = make_engine(**settings).score([*prompt(9, 1), 77, 77, 77])[-4:].log_softmax(-1)[:, 77]
    assert wanted.logprobs == pytest.approx(free.tolist(), abs=1e-3)


def test_a_forbidden_token_never_comes_and_a_neighbour_notices_nothing() -> None:
    engine, banned = make_engine(), ((77, -math.inf), (78, -math.inf))
    alone = one(3)
    often = dict.fromkeys((77, 78), 6.0)
    groups = engine.generate(
        [prompt(9, 2), prompt(9, 3), prompt(9, 4)],
        [params(2, logit_bias=banned), params(3), params(4, logit_bias=tuple(often.items()))],
    )
    assert not {77, 78} & set(groups[0][0].token_ids)
    assert groups[1][0].token_ids == alone.token_ids
    assert {77, 78} & set(groups[2][0].token_ids)


@pytest.mark.parametrize("settings", WAYS)
def test_no_end_before_the_minimum_of_tokens(settings: dict[str, Any]) -> None:
    eager = ((STOP, 200.0),)
    assert len(one(5, settings, logit_bias=eager).token_ids) == 1
    assert len(one(5, settings, logit_bias=eager, min_tokens=7).token_ids) == 8


@pytest.mark.parametrize("settings", [{"speculation": "lookup"}, {"speculation": "lookup", "kernels": "torch"}])
def test_guesses_do_not_reach_beyond_a_minimum(settings: dict[str, Any]) -> None:
    """The text repeats itself, so that guesses are right, up to where it may end and does."""
    for least in range(6, 14):
        found = one(5, settings, logit_bias=((STOP, 200.0), (77, 100.0)), min_tokens=least)
        assert found.token_ids == (77,) * least + (STOP,)


@pytest.mark.parametrize("settings", WAYS)
def test_thinking_goes_on_to_its_minimum(settings: dict[str, Any]) -> None:
    hasty = ((CLOSE, 200.0), (STOP, 100.0))
    assert one(5, settings, logit_bias=hasty).thinking_tokens == 0
    found = one(5, settings, logit_bias=hasty, min_thinking=6)
    assert found.thinking_tokens == 6 and not found.forced_close


@pytest.mark.parametrize("settings", WAYS)
def test_a_text_without_an_end_goes_on_to_its_limit(settings: dict[str, Any]) -> None:
    found = one(5, settings, logit_bias=((STOP, 200.0),), ignore_eos=True, max_tokens=9)
    assert found.token_ids == (STOP,) * 9 and found.finish_reason == "length"
    events = told(prompt(9, 5), params(5, logit_bias=((STOP, 200.0),), ignore_eos=True, max_tokens=9), **settings)
    assert [event.token_id for event in events] == [STOP] * 9 and events[-1].finished is not None


@pytest.mark.parametrize("settings", WAYS)
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_the_likeliest_tokens_are_those_of_the_model(settings: dict[str, Any], temperature: float) -> None:
    ids = prompt(9, 6)
    events = told(ids, params(6, temperature=temperature, top_logprobs=3, max_tokens=8), **settings)
    plain = told(ids, params(6, temperature=temperature, max_tokens=8), **settings)
    assert [event.token_id for event in events] == [event.token_id for event in plain]
    tokens = [event.token_id for event in events if event.token_id is not None]
    logits = make_engine(**settings).score([*ids, *tokens[:-1]])[-len(tokens) :]
    expected = (logits / (temperature or 1.0)).log_softmax(-1)
    for event, line in zip(events, expected, strict=True):
        assert event.token_id is not None
        assert event.logprob == pytest.approx(float(line[event.token_id]), abs=1e-3)
        best = line.topk(3)
        assert [token for token, _ in event.top] == best.indices.tolist()
        assert [value for _, value in event.top] == pytest.approx(best.values.tolist(), abs=1e-3)
        assert event.top[0][1] >= event.logprob - 1e-6


def test_a_grammar_says_where_its_answer_ends() -> None:
    pytest.importorskip("llguidance", reason="the extra structured is not installed")
    found = one(7, grammar=Grammar("regex", "[ab]{2}"), thinking_budget=3, min_tokens=30, max_tokens=60)
    assert found.finish_reason == "stop" and len(found.answer) == 2


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("min_tokens", {"min_tokens": 41, "max_tokens": 40}),
        ("min_thinking", {"min_thinking": 9, "thinking_budget": 8}),
        ("top_logprobs", {"top_logprobs": -1}),
    ],
)
def test_what_makes_no_sense_is_named(field: str, more: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=field):
        SamplingParams(**more)


def test_a_bias_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(UserError, match="logit_bias"):
        make_engine().submit(prompt(9, 0), params(0, logit_bias=((10**6, 1.0),)))
