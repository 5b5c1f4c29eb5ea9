"""The native step against its PyTorch twin, for every variant that was compiled and every shape of model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from raison.engine.engine import Engine
from raison.engine.kernels import native
from raison.engine.native_runner import NativeRunner
from raison.engine.sampler import Places, look_up, sample
from raison.engine.sequence import SamplingParams
from raison.engine.settings import EngineSettings
from raison.engine.slots import LIMITS
from raison.errors import NumericalError
from raison.model.transformer import Transformer
from tests.engine.small import TOKENIZER, ids, make_engine, params, prompt, small_model
from tests.shapes import FAMILY_SHAPES, SHAPES, random_ids, random_model


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("shape", SHAPES)
def test_logprobs_are_the_models(shape: str) -> None:
    """Prompts beyond a tile, chunks, decoding; each log-probability against the uncached model's."""
    model = random_model(replace(SHAPES[shape], vocab_size=1280))
    settings = EngineSettings(page_size=4, cache_tokens=2048, max_batch=16, prefill_chunk=70)
    engine = Engine(model, TOKENIZER, settings)
    assert isinstance(engine._runner, NativeRunner)
    prompts = [random_ids(n, 1280, seed=n) for n in (1, 2, 7, 33, 50, 101)]
    groups = engine.generate(prompts, [params(i, max_tokens=30) for i in range(len(prompts))], n=2)
    for start, group in zip(prompts, groups, strict=True):
        for completion in group:
            with torch.no_grad():
                logits = model.score([*start, *completion.token_ids])[len(start) - 1 : -1]
            expected = logits.log_softmax(-1).gather(1, torch.tensor(completion.token_ids)[:, None]).squeeze(1)
            assert (expected - torch.tensor(completion.logprobs)).abs().max() < 1e-4


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_row_does_not_depend_on_its_batch(threads: int) -> None:
    """Bit for bit, whatever the company and the number of threads."""
    prompts = [prompt(3 + i % 41, i) for i in range(40)]
    alone, together = make_engine(), make_engine(max_batch=64, prefill_chunk=37)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        batch = together.generate(prompts, [params(i) for i in range(40)])
    finally:
        torch.set_num_threads(before)
    for i, start in enumerate(prompts):
        ((one,),) = alone.generate([start], params(i))
        assert one.token_ids == batch[i][0].token_ids
        assert one.logprobs == batch[i][0].logprobs


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("shape", ["llama", "groups"])
@pytest.mark.parametrize("dtype", ["fp32", "q8"])
def test_pages_and_chunks_do_not_show(shape: str, dtype: str) -> None:
    """Bit for bit: prompts in blocks of queries and keys, or a token at a time over pages of any size."""
    model = random_model(replace({**SHAPES, **FAMILY_SHAPES}[shape], vocab_size=1280))
    prompts, each = [random_ids(n, 1280, seed=n) for n in (150, 97, 31)], [params(i, max_tokens=12) for i in range(3)]
    found = []
    for page, chunk in ((16, 256), (64, 1), (4, 256), (24, 7), (32, 100)):
        settings = EngineSettings(page_size=page, cache_tokens=1920, max_batch=6, prefill_chunk=chunk, dtype=dtype)  # type: ignore[arg-type]
        groups = Engine(model, TOKENIZER, settings).generate(prompts, each, n=2)
        found.append([(c.token_ids, c.logprobs) for group in groups for c in group])
    assert all(one == found[0] for one in found)


@pytest.mark.usefixtures("variant")
def test_same_tokens_as_pytorch() -> None:
    prompts = [prompt(5 + 9 * i, i) for i in range(9)]
    filters: list[dict[str, Any]] = [{}, {"temperature": 0.6, "top_p": 0.95}, {"top_k": 20, "min_p": 0.01}]
    each = [params(i, **filters[i % 3]) for i in range(9)]
    ours, reference = make_engine(), make_engine(kernels="torch")
    assert not isinstance(reference._runner, NativeRunner)
    assert ids(ours.generate(prompts, each, n=3)) == ids(reference.generate(prompts, each, n=3))


def asks(lines: np.ndarray, temperature: float, noise: np.ndarray) -> native.Asks:
    limits = np.full(len(lines), np.array((0, 1.0, 0.0), LIMITS))
    return native.Asks(lines, np.full(len(lines), temperature, np.float32), noise, limits)


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("vocabulary", [1, 5, 16, 63, 64, 65, 1259])
@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_draws_are_the_cumulative_distributions(vocabulary: int, temperature: float) -> None:
    """The token that the twin looks up; or, where the uniform number meets a boundary within 1e-6, its neighbour."""
    numbers = torch.Generator().manual_seed(vocabulary)
    logits = torch.randn(3, vocabulary, generator=numbers) * 3
    lines, noise = np.arange(600) % 3, np.random.default_rng(0).random(600)
    tokens, logprobs = native.draw(logits, vocabulary, asks(lines, temperature, noise))
    scaled = (logits / temperature).log_softmax(-1)[torch.from_numpy(lines)]
    assert np.allclose(logprobs, scaled.gather(1, torch.from_numpy(tokens)[:, None]).squeeze(1), atol=2e-6)
    for shift in (-1e-6, 1e-6):
        bounds = look_up(scaled.exp(), torch.from_numpy((noise + shift).clip(0, 1 - 1e-12)))
        assert ((torch.from_numpy(tokens) - bounds) * shift <= 0).all()


@pytest.mark.usefixtures("variant")
def test_impossible_tokens_are_never_drawn() -> None:
    logits = torch.full((1, 200), -200.0)
    logits[0, 70] = 0.0
    noise = np.array([0.0, 0.5, 1 - 2**-53])
    tokens, logprobs = native.draw(logits, 200, asks(np.zeros(3, np.int64), 1.0, noise))
    assert tokens.tolist() == [70, 70, 70]
    assert logprobs.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_an_error(bad: float) -> None:
    logits = torch.zeros(2, 50)
    logits[1, 17] = bad
    engine = make_engine()
    engine._slots.temperature[:2] = 1
    rows = np.arange(2)
    with pytest.raises(NumericalError, match="not finite"):
        sample(logits, rows, 50, engine._slots, Places(rows, np.zeros(2, np.int64)))


def test_why_a_model_runs_on_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    if native.library().handle is None:
        assert native.why_not(small_model()) == native.library().why
        pytest.skip(native.library().why)
    assert native.why_not(small_model()) is None
    half = Transformer(small_model().spec).to(torch.bfloat16)
    assert native.why_not(half) == "the weights are not all fp32 on the CPU"
    monkeypatch.setattr(native, "PACKED_BYTES", 1000)
    assert "too many to pack" in str(native.why_not(small_model()))


def test_why_there_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    find = native.library.__wrapped__
    monkeypatch.setattr(native.hardware, "processor_flags", lambda: frozenset(["asimd"]))
    assert "neither AVX-512 nor AVX2" in find().why
    monkeypatch.setattr(native.hardware, "processor_flags", lambda: frozenset(native.VARIANTS["avx2"]))
    monkeypatch.setattr(native, "_built", lambda name: None)
    assert "not compiled at installation" in find().why
    monkeypatch.setattr(native, "library", find)
    engine = make_engine()
    assert not isinstance(engine._runner, NativeRunner)
    ((completion,),) = engine.generate([prompt(9, 1)], SamplingParams(max_tokens=5, seed=1))
    assert len(completion.token_ids) == 5
