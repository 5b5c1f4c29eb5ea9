"""Guesses change nothing but time: the same tokens for the same seed, from every source, in every width."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from raison.engine.engine import Engine
from raison.engine.sequence import SamplingParams
from raison.engine.settings import EngineSettings
from raison.engine.speculate import continuation
from raison.errors import UserError
from raison.model.transformer import Transformer
from raison.reasoner import SHIPPED, load
from raison.records import Completion
from raison.text.chat import prompt_ids
from tests.engine.small import SPEC, TOKENIZER, prompt
from tests.shapes import random_model

QUESTIONS = ("Make 46 from 3, 7, 25", "Make 27 from 17, 6, 4", "Make 15 from 3, 5, 20", "Make 70 from 12, 9, 2")


@cache
def predicting() -> Transformer:
    return random_model(replace(SPEC, num_nextn_predict_layers=1))


def small(**settings: Any) -> Engine:
    sizes: dict[str, Any] = {"page_size": 4, "cache_tokens": 4096, "max_batch": 16, "prefill_chunk": 64}
    return Engine(predicting(), TOKENIZER, EngineSettings(**{**sizes, **settings}))


@cache
def shipped() -> tuple[Transformer, Any]:
    if not SHIPPED.is_dir():
        pytest.skip("this installation has no shipped reasoner")
    reasoner = load()
    return reasoner.model, reasoner.tokenizer


def told(completions: list[list[Completion]]) -> list[tuple[Any, ...]]:
    return [(c.token_ids, c.logprobs, c.text, c.finish_reason, c.forced_close) for group in completions for c in group]


@pytest.mark.parametrize("source", ["mtp", "lookup", "auto"])
@pytest.mark.parametrize("dtype", ["fp32", "q8"])
@pytest.mark.usefixtures("native_code")
def test_a_trained_models_tokens_stay_and_steps_go(source: str, dtype: str) -> None:
    model, tokenizer = shipped()
    prompts = [prompt_ids(tokenizer, question, []) for question in QUESTIONS]
    asked = [
        SamplingParams(temperature=t, top_k=k, thinking_budget=b, max_tokens=b + 40, stop=s, seed=7)
        for t, k, b, s in ((1.0, 0, 200, ()), (0.0, 0, 200, ()), (0.8, 5, 60, ()), (1.0, 0, 90, ("=",)))
    ]
    found, steps = [], []
    for speculation in ("none", source):
        settings = EngineSettings(cache_tokens=4096, max_batch=16, dtype=dtype, speculation=speculation)  # type: ignore[arg-type]
        engine = Engine(model, tokenizer, settings)
        found.append(
            told(engine.generate(prompts, asked, 2)) + told([engine.generate([p], asked[0])[0] for p in prompts])
        )
        steps.append(engine.stats.steps)
        assert engine.stats.pages_free == engine.stats.pages_total
    assert found[0] == found[1]
    assert engine.stats.guesses_right > 0
    if source == "mtp":
        assert engine.stats.guesses_right > 0.3 * engine.stats.tokens_guessed
        assert steps[1] < 0.6 * steps[0]


@pytest.mark.parametrize("source", ["mtp", "lookup"])
def test_pytorch_checks_guesses_too(source: str) -> None:
    """Its kernels round differently for other shapes; greedy tokens of this model are never so near to each other."""
    plain, guessing = (
        small(kernels="torch", speculation=s).generate(
            [prompt(9, 1), prompt(14, 2)], SamplingParams(temperature=0, max_tokens=60, answer_tokens=50), 1
        )
        for s in ("none", source)
    )
    assert told(plain)[0][0] == told(guessing)[0][0]


def test_modules_of_both_kinds_guess_alike() -> None:
    """PyTorch's module is fp32 and native code's has 8 bits: they differ in few guesses."""
    model, tokenizer = shipped()
    rights = []
    for kernels in ("auto", "torch"):
        engine = Engine(
            model, tokenizer, EngineSettings(cache_tokens=2048, max_batch=4, speculation="mtp", kernels=kernels)
        )  # type: ignore[arg-type]
        engine.generate([prompt_ids(tokenizer, q, []) for q in QUESTIONS], SamplingParams(max_tokens=120), 1)
        rights.append(engine.stats.guesses_right / engine.stats.tokens_guessed)
    assert abs(rights[0] - rights[1]) < 0.05


@pytest.mark.parametrize("source", ["mtp", "lookup"])
@pytest.mark.usefixtures("native_code")
def test_guesses_in_a_cache_that_is_too_small(source: str) -> None:
    """Pages for guesses are taken only where they are not short, and all come back."""
    numbers = random.Random(source)
    greedy = 0.0 if source == "lookup" else 1.0  # a random model repeats itself only so
    asked = [
        SamplingParams(temperature=greedy, max_tokens=numbers.randint(2, 40), answer_tokens=30, seed=i)
        for i in range(12)
    ]
    prompts = [prompt(numbers.choice((3, 9, 17, 30)), i % 3) for i in range(12)]
    one_by_one = small()
    expected = [told([one_by_one.generate([p], a, 2)[0]]) for p, a in zip(prompts, asked, strict=True)]
    engine = small(cache_tokens=120, max_batch=7, speculation=source)
    assert told(engine.generate(prompts, asked, 2)) == [line for lines in expected for line in lines]
    assert engine.stats.preemptions > 0 and engine.stats.tokens_guessed > 0
    assert engine.stats.pages_free == engine.stats.pages_total
    assert not engine._scheduler.pool.references.any()


def test_a_stop_string_within_a_step_ends_there() -> None:
    """Loud sequences are told token by token, and nothing behind the stop is kept."""
    model, tokenizer = shipped()
    asked = SamplingParams(thinking_budget=100, max_tokens=160, stop=("+", "-", "*"), seed=3)
    for question in QUESTIONS:
        ids = prompt_ids(tokenizer, question, [])
        streams = []
        for speculation in ("none", "mtp"):
            settings = EngineSettings(cache_tokens=2048, max_batch=4, speculation=speculation, draft_tokens=6)  # type: ignore[arg-type]
            events = list(Engine(model, tokenizer, settings).stream(ids, asked))
            streams.append([(e.token_id, e.text, e.thinking) for e in events])
        assert streams[0] == streams[1]


def test_what_followed_before_is_guessed() -> None:
    def after(*tokens: int, most: int = 3) -> list[int]:
        return continuation(np.array(tokens), most).tolist()

    assert after(1, 2, 3, 4, 5, 1, 2) == [3, 4, 5]
    assert after(1, 2, 9, 1, 2, 3, 8, 8, 1, 2) == [3, 8, 8]  # the last time counts
    assert after(7, 1, 2, 5, 3, 1, 2, 6, 7, 1, 2) == [5, 3, 1]  # but a longer match more
    assert after(1, 2, 3) == [] and after(5) == [] and after(1, 9, 1) == []
    assert after(4, 4, 4, most=2) == [4]


def test_settings_that_cannot_be() -> None:
    with pytest.raises(UserError, match="must be one of: none, auto, mtp, lookup, draft"):
        small(speculation="often")
    with pytest.raises(UserError, match="draft_tokens is 0"):
        small(draft_tokens=0)
    with pytest.raises(UserError, match="no MTP module"):
        Engine(random_model(replace(SPEC, num_nextn_predict_layers=0)), TOKENIZER, EngineSettings(speculation="mtp"))


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_the_modules_cache_is_kept_in_step(kernels: str) -> None:
    """Guesses while decoding token by token are those of one long pass over the same text."""
    model, tokenizer = shipped()
    torch.manual_seed(0)
    settings = EngineSettings(
        cache_tokens=1024, max_batch=2, speculation="mtp", draft_tokens=1, kernels=kernels, turns=1,  # type: ignore[arg-type]
    )  # fmt: skip
    engine = Engine(model, tokenizer, settings)
    ids = prompt_ids(tokenizer, QUESTIONS[0], [])
    engine.submit(ids, SamplingParams(temperature=0, max_tokens=80))
    agree = seen = 0
    said: list[int] = []
    while engine._busy():
        engine.step()
        rows = np.flatnonzero(engine._slots.active)
        if len(rows) and engine._slots.drafts[rows[0]]:
            row, length = rows[0], int(engine._slots.length[rows[0]])
            said = engine._slots.tokens[row, :length].tolist()
            seen += 1
            agree += int(engine._slots.tokens[row, length]) == _guess_of(model, said)
    assert seen > 20 and agree >= 0.95 * seen  # 8 bits against fp32 differ at near-ties


@torch.no_grad()
def _guess_of(model: Transformer, ids: list[int]) -> int:
    """The module's likeliest next token after `ids`, computed over the whole text."""
    from raison.model.layout import Layout
    from raison.model.rope import rotation

    layout = Layout.of([len(ids)])
    states, _ = model.hidden(torch.tensor(ids), layout.positions_N, layout)
    short = Layout.of([len(ids) - 1])
    module = next(model.predictors())
    ahead = model.embed(torch.tensor(ids[1:]))
    out, _ = module(model.norm(states)[:-1], ahead, rotation(model.spec, short.positions_N), short)
    return int(model.logits(out[-1:], module.norm).argmax())


def test_a_long_prompt_comes_in_chunks_before_anything_is_guessed() -> None:
    """Its first steps sample nothing."""
    engine, whole = (small(speculation=kind, prefill_chunk=16) for kind in ("auto", "none"))
    found, expected = (told(e.generate([prompt(60, 1)], SamplingParams(max_tokens=40))) for e in (engine, whole))
    assert found == expected
