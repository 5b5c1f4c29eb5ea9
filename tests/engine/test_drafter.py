"""A draft model changes no token, reads what it must however the cache was shared, cut and swapped, and is counted."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from raison.engine.engine import Engine
from raison.engine.sequence import SamplingParams
from raison.engine.settings import Draft, EngineSettings
from raison.errors import UserError
from raison.model.transformer import Transformer
from raison.records import Completion
from raison.text.tokenizer import Tokenizer
from tests.engine.small import SPEC, TOKENIZER, prompt
from tests.shapes import GROUPED, random_model

SMALLER = replace(GROUPED, vocab_size=1270, max_position_embeddings=1024)
"""Another kind of attention, and fewer ids than the model is padded to."""


@cache
def model() -> Transformer:
    return random_model(SPEC)


def another() -> Draft:
    return Draft(random_model(SMALLER, 5), TOKENIZER)


def itself() -> Draft:
    """The model as its own draft: in fp32 native code every guess of it is right."""
    return Draft(model(), TOKENIZER, "fp32")


def engine_of(draft: Draft | None, **settings: Any) -> Engine:
    sizes: dict[str, Any] = {"page_size": 4, "cache_tokens": 4096, "max_batch": 16, "prefill_chunk": 64}
    guesses = {} if draft is None else {"speculation": "draft"}
    return Engine(model(), TOKENIZER, EngineSettings(**{**sizes, **guesses, **settings}), draft)


def told(completions: list[list[Completion]]) -> list[tuple[Any, ...]]:
    return [(c.token_ids, c.logprobs, c.finish_reason, c.forced_close) for group in completions for c in group]


def requests(count: int, seed: int) -> tuple[list[list[int]], list[SamplingParams]]:
    numbers = random.Random(seed)
    asked = [
        SamplingParams(
            temperature=numbers.choice((0.0, 0.7, 1.0)), max_tokens=numbers.randint(1, 50), seed=i,
            thinking_budget=numbers.choice((None, None, 0, 9)), answer_tokens=40, top_k=numbers.choice((0, 0, 0, 5)),
        )
        for i in range(count)
    ]  # fmt: skip
    return [prompt(numbers.choice((3, 5, 9, 17, 30, 47)), i % 3) for i in range(count)], asked


@pytest.mark.parametrize("settings", [{}, {"cache_tokens": 160, "max_batch": 6, "prefill_chunk": 13}], ids=str)
@pytest.mark.parametrize("dtype", ["fp32", "q8"])
def test_tokens_stay(variant: str, settings: dict[str, Any], dtype: str) -> None:
    prompts, asked = requests(14, 1)
    expected = told(engine_of(None, dtype=dtype).generate(prompts, asked, 2))
    for more in ({}, {"speculation": "auto"}, {"swap_tokens": 64}):
        engine = engine_of(another(), **{**settings, "dtype": dtype, **more})
        assert told(engine.generate(prompts, asked, 2)) == expected
        assert engine.stats.tokens_guessed > 0 and engine.stats.pages_free == engine.stats.pages_total
    assert engine.stats.preemptions > 0 or not settings


def long_texts(count: int) -> tuple[list[list[int]], SamplingParams]:
    """Prompts with common beginnings, and answers that end at their length alone."""
    prompts = [prompt(40, 1)[: 8 * (1 + i % 4)] + prompt(3 + i, i)[1:] for i in range(count)]
    return prompts, SamplingParams(max_tokens=45, ignore_eos=True, seed=3)


@pytest.mark.parametrize("turns", [True, False])
@pytest.mark.parametrize(
    "settings",
    [{}, {"draft_tokens": 1}, {"cache_tokens": 200}, {"cache_tokens": 200, "swap_tokens": 120}, {"prefill_chunk": 7}],
    ids=str,
)
def test_the_model_as_its_own_draft_is_always_right(settings: dict[str, Any], turns: bool) -> None:
    """Its cache lacks nothing and holds nothing that is old, however pages were shared, copied and given up."""
    engine = engine_of(itself(), **settings)
    if not turns:
        engine._turns = None
    prompts, asked = long_texts(12)
    for _ in range(2):  # the second time prefixes are found
        engine.generate(prompts, asked, 3)
    stats = engine.stats
    assert stats.guesses_right == stats.tokens_guessed > 500
    assert stats.prompt_tokens_cached > 0 and (stats.preemptions > 0) == ("cache_tokens" in settings)


def test_what_was_missed_is_read_a_little_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a while without guesses, where they did not pay."""
    monkeypatch.setattr("raison.engine.engine.READ_AT_ONCE", 16)
    monkeypatch.setattr("raison.engine.drafter.READ_AT_ONCE", 16)
    for turns in (True, False):
        engine = engine_of(itself())
        engine._turns = engine._turns if turns else None
        monkeypatch.setattr(engine, "_depth", lambda batch: 3 if engine.stats.steps > 60 else 0)  # noqa: B023
        engine.generate([prompt(9, 1)], SamplingParams(max_tokens=150, ignore_eos=True), 2)
        assert engine.stats.guesses_right == engine.stats.tokens_guessed > 80


def test_pytorch_checks_a_drafts_guesses_too() -> None:
    prompts, asked = [prompt(9, 1), prompt(14, 2)], SamplingParams(temperature=0, max_tokens=60, answer_tokens=50)
    plain, guessing = (engine_of(draft, kernels="torch") for draft in (None, itself()))
    assert [t[0] for t in told(plain.generate(prompts, asked))] == [
        t[0] for t in told(guessing.generate(prompts, asked))
    ]
    assert guessing.stats.guesses_right > 0.9 * guessing.stats.tokens_guessed > 50


@pytest.mark.parametrize("dtype", ["fp32", "q8"])
def test_its_cache_is_counted(dtype: str) -> None:
    engine = engine_of(another(), dtype=dtype, cache_tokens=128, swap_tokens=80)
    own = (128 + 4 + 80) * SPEC.cache_width * SPEC.num_hidden_layers * (4 if dtype == "fp32" else 2)
    drafts = (128 + 4) * SMALLER.cache_width * SMALLER.num_hidden_layers * 2
    assert engine.cache_bytes == own + drafts


def test_drafts_that_cannot_be() -> None:
    foreign = Tokenizer.build()
    foreign.backend.add_tokens(["wonder"])
    with pytest.raises(UserError, match=r"another vocabulary .*'wonder'"):
        engine_of(Draft(random_model(SMALLER), foreign))
    with pytest.raises(UserError, match="guess ids that the model has not"):
        engine_of(Draft(random_model(replace(SMALLER, vocab_size=2000)), TOKENIZER))
    with pytest.raises(UserError, match="there is no draft model"):
        engine_of(None, speculation="draft")
    with pytest.raises(UserError, match='speculation is "lookup"'):
        engine_of(another(), speculation="lookup")
    with pytest.raises(UserError, match='speculation is "draft"'):
        EngineSettings(kernels="captured", speculation="draft")
