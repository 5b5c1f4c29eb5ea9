"""Equivalences of the engine: how tokens are computed (cached, chunked, shared, batched, interrupted) must not show."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raison.engine.engine import Engine
from raison.engine.sequence import sample_seed
from raison.engine.settings import EngineSettings
from raison.model.layout import Layout
from tests.engine.small import TOKENIZER, ids, make_engine, params, prompt, small_model
from tests.shapes import FAMILY_SHAPES, random_model

LENGTHS = (4, 5, 9, 16, 17, 23, 31, 40)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_the_uncached_models(temperature: float) -> None:
    prompts = [prompt(n, n) for n in LENGTHS]
    groups = make_engine().generate(prompts, [params(i, temperature=temperature) for i in range(len(prompts))], n=2)
    for start, group in zip(prompts, groups, strict=True):
        for completion in group:
            with torch.no_grad():
                logits = small_model().score([*start, *completion.token_ids])[len(start) - 1 : -1]
            expected = (logits / temperature).log_softmax(-1).gather(1, torch.tensor(completion.token_ids)[:, None])
            assert (expected.squeeze(1) - torch.tensor(completion.logprobs)).abs().max() < 1e-4
            assert len(set(completion.token_ids)) > 5


@pytest.mark.parametrize("shape", FAMILY_SHAPES)
def test_logprobs_of_every_family(shape: str) -> None:
    """The paged cache holds keys and values as well as latents."""
    model = random_model(replace(FAMILY_SHAPES[shape], vocab_size=1280))
    engine = Engine(model, TOKENIZER, EngineSettings(page_size=4, cache_tokens=2048, max_batch=16, prefill_chunk=64))
    prompts = [prompt(n, n) for n in LENGTHS]
    groups = engine.generate(prompts, [params(i) for i in range(len(prompts))], n=2)
    for start, group in zip(prompts, groups, strict=True):
        for completion in group:
            with torch.no_grad():
                logits = model.score([*start, *completion.token_ids])[len(start) - 1 : -1]
            expected = logits.log_softmax(-1).gather(1, torch.tensor(completion.token_ids)[:, None]).squeeze(1)
            assert (expected - torch.tensor(completion.logprobs)).abs().max() < 1e-4


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_mixed_batch_equals_one_by_one(dtype: str) -> None:
    """Some 4,000 tokens. In fp32 rounding differs where an expert has a few rows; a flip then needs a uniform number
    within about 1e-6 of a boundary between tokens, so that a right engine fails here with a chance below 1 in 100."""
    prompts = [prompt(3 + i % 41, i) for i in range(72)]
    each = [params(i) for i in range(72)]
    together = make_engine(dtype=dtype).generate(prompts, each)
    alone = make_engine(dtype=dtype)
    assert ids(together) == [ids(alone.generate([p], one))[0] for p, one in zip(prompts, each, strict=True)]
    assert sum(len(c.token_ids) for group in together for c in group) > 3000


def test_chunked_prefill_equals_whole() -> None:
    prompts = [prompt(n, n) for n in (7, 33, 60, 90)]
    whole = make_engine(prefill_chunk=512).generate(prompts, params(3))
    for chunk in (1, 5, 16, 50):
        assert ids(make_engine(prefill_chunk=chunk).generate(prompts, params(3))) == ids(whole)


@pytest.mark.parametrize("length", [16, 17, 18, 23])
def test_samples_share_one_prompt(length: int) -> None:
    start, one = prompt(length, 1), params(11)
    shared, separate = make_engine(), make_engine()
    (group,) = shared.generate([start], one, n=8)
    assert shared.stats.prompt_tokens_computed == length
    assert [c.cached_tokens for c in group] == [0] + [length] * 7
    assert [c.seed for c in group] == [sample_seed(11, i) for i in range(8)]
    alone = [separate.generate([start], replace(one, seed=c.seed))[0][0] for c in group]
    assert [c.token_ids for c in group] == [c.token_ids for c in alone]
    assert len({c.token_ids for c in group}) == 8


def test_known_prefix_is_not_computed_again() -> None:
    engine, fresh = make_engine(), make_engine()
    first, second = prompt(30, 1), [*prompt(30, 1)[:22], *prompt(12, 2)]
    engine.generate([first], params(1))
    (again,) = engine.generate([second], params(2))
    assert again[0].cached_tokens == 20
    assert ids([again]) == ids(fresh.generate([second], params(2)))


def test_preemption_changes_no_token() -> None:
    prompts = [prompt(n, n) for n in LENGTHS]
    each = [params(i) for i in range(len(prompts))]
    tight, wide = make_engine(cache_tokens=128, prefill_chunk=16), make_engine()
    assert ids(tight.generate(prompts, each, n=3)) == ids(wide.generate(prompts, each, n=3))
    assert tight.stats.preemptions > 3
    assert tight.stats.pages_free == tight.stats.pages_total


def test_changed_weights_are_used_at_once() -> None:
    for dtype in ("fp32", "bf16"):
        engine, start = make_engine(dtype=dtype), prompt(21, 1)
        before = engine.generate([start], params(1))
        weight = small_model().layers[0].self_attn.o_proj.weight  # type: ignore[union-attr]
        kept = weight.detach().clone()
        try:
            with torch.no_grad():
                weight.mul_(-1)
            engine.update_weights()
            changed = engine.generate([start], params(1))
            assert changed[0][0].cached_tokens == 0
            assert ids(changed) == ids(make_engine(dtype=dtype).generate([start], params(1))) != ids(before)
        finally:
            with torch.no_grad():
                weight.copy_(kept)


def test_bf16_agrees_with_scoring_in_bf16() -> None:
    """The cast copy rounds what training in bf16 rounds, no more: norms, router and head stay exact."""
    engine, start = make_engine(dtype="bf16"), prompt(20, 5)
    (completion,) = engine.generate([start], params(2, max_tokens=60))[0]
    tokens = torch.tensor([*start, *completion.token_ids])
    layout = Layout.of([len(tokens)])
    with torch.no_grad():
        states, _ = small_model().hidden(tokens, layout.positions_N, layout, torch.bfloat16)
        expected = small_model().logits(states).log_softmax(-1)[len(start) - 1 : -1]
    chosen = expected.gather(1, tokens[len(start) :, None]).squeeze(1)
    assert (chosen - torch.tensor(completion.logprobs)).abs().mean() < 0.05
