"""Native steps of every family, in fp32 against the model and in 8 and 4 bits against their PyTorch twin."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import pytest
import torch

from raison.engine.engine import Engine
from raison.engine.line import CacheDtype
from raison.engine.native_runner import NativeRunner
from raison.engine.settings import EngineSettings
from raison.engine.twin import compute_copy
from raison.model.layers import Linear
from raison.model.packed import Scratch
from raison.model.rounding import rounded, rounded_rows
from raison.model.transformer import Transformer
from raison.weights.gguf_blocks import GgufBlocks
from tests.engine.small import TOKENIZER, params
from tests.shapes import FAMILY_SHAPES, SHAPES, random_ids, random_model

Width = Literal["q8", "q4"]
SETTINGS = EngineSettings(page_size=4, cache_tokens=2048, max_batch=16, prefill_chunk=70)
ALL = {**SHAPES, **FAMILY_SHAPES}
WIDE = replace(ALL["llama"], vocab_size=1280, head_dim=200)
"""Heads of more than one group of the cache's 8 bits, the last of which is short."""


def model_of(shape: str) -> Transformer:
    return random_model(replace(ALL[shape], vocab_size=1280))


def engine_of(model: Transformer, dtype: Literal["fp32", "q8", "q4"], cache: CacheDtype = "auto") -> Engine:
    engine = Engine(model, TOKENIZER, replace(SETTINGS, dtype=dtype, cache_dtype=cache))
    assert isinstance(engine._runner, NativeRunner)
    return engine


def twin_of(model: Transformer, dtype: Literal["fp32", "q8", "q4"], cache: CacheDtype = "auto") -> Engine:
    """The same in PyTorch."""
    return Engine(model, TOKENIZER, replace(SETTINGS, dtype=dtype, cache_dtype=cache, kernels="torch"))


def gaps(engine: Engine, reference: Transformer | Engine) -> torch.Tensor:
    """Between the engine's log-probabilities and the reference's, over long and short prompts and their answers."""
    prompts = [random_ids(n, 1280, seed=n) for n in (1, 2, 33, 101)]
    groups = engine.generate(prompts, [params(i, max_tokens=12) for i in range(len(prompts))], n=2)
    found = []
    for start, group in zip(prompts, groups, strict=True):
        for completion in group:
            with torch.no_grad():
                logits = reference.score([*start, *completion.token_ids])[len(start) - 1 : -1]
            expected = logits.log_softmax(-1).gather(1, torch.tensor(completion.token_ids)[:, None]).squeeze(1)
            found.append((expected - torch.tensor(completion.logprobs)).abs())
    return torch.cat(found)


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("shape", FAMILY_SHAPES)
def test_fp32_is_the_model(shape: str) -> None:
    model = model_of(shape)
    assert gaps(engine_of(model, "fp32"), model).max() < 1e-4


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize(("cache", "most"), [("fp16", 0.01), ("q8", 0.2)])
@pytest.mark.parametrize("shape", [*(name for name, spec in ALL.items() if not spec.n_routed_experts), "wide"])
def test_a_rounded_cache_is_the_twins(shape: str, cache: CacheDtype, most: float) -> None:
    """Beside exact weights: far nearer to the twin with the same cache than what the rounding itself does."""
    model = random_model(WIDE) if shape == "wide" else model_of(shape)
    found = gaps(engine_of(model, "fp32", cache), twin_of(model, "fp32", cache))
    exact = gaps(engine_of(model, "fp32", cache), model)
    assert found.mean() < exact.mean() / 4 and exact.max() < most


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("width", ["q8", "q4"])
@pytest.mark.parametrize("shape", [name for name, spec in ALL.items() if not spec.n_routed_experts])
def test_rounded_weights_are_the_twins(shape: str, width: Width) -> None:
    """Up to activations at the middle between two bytes, and the order in which absorbed MLA rounds."""
    model = model_of(shape)
    found = gaps(engine_of(model, width), twin_of(model, width))
    exact = gaps(engine_of(model, width), model)
    assert found.mean() < (0.06 if model.spec.is_latent else 0.005)
    assert exact.mean() > found.mean()


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("width", ["q8", "q4"])
@pytest.mark.parametrize("shape", [name for name, spec in ALL.items() if spec.n_routed_experts])
def test_rounded_experts_stay_near(shape: str, width: Width) -> None:
    """A rounded activation can send a token to another expert: near in the mean alone."""
    model = model_of(shape)
    assert gaps(engine_of(model, width), twin_of(model, width)).mean() < 0.25


LARGE = {
    "llama": replace(ALL["llama"], vocab_size=1280, hidden_size=512, intermediate_size=1536, num_hidden_layers=6),
    "groups": replace(ALL["groups"], vocab_size=1280, hidden_size=512, moe_intermediate_size=512, n_routed_experts=16),
}
"""Too large for one thread's cache, so that threads share out every product."""


@contextmanager
def with_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def answers(engine: Engine, prompts: list[list[int]]) -> list[tuple[float, ...]]:
    groups = engine.generate(prompts, [params(i, max_tokens=8) for i in range(len(prompts))])
    return [group[0].logprobs for group in groups]


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("width", ["fp32", "q8", "q4"])
@pytest.mark.parametrize("shape", LARGE)
def test_a_team_computes_what_one_thread_does(shape: str, width: Width | Literal["fp32"]) -> None:
    """The same bits for any number of threads, more than there are cores among them, and for any batch."""
    model = random_model(LARGE[shape])
    prompts = [random_ids(3 + 7 * i, 1280, seed=i) for i in range(12)]
    found = []
    for threads in (1, 2, 3, 8):
        with with_threads(threads):
            found.append(answers(engine_of(model, width), prompts))
    assert all(one == found[0] for one in found)
    assert answers(engine_of(model, width), prompts[:1]) == found[0][:1]


@pytest.mark.usefixtures("variant")
def test_engines_at_once_do_not_disturb_each_other() -> None:
    """Threads help one engine at a time; the others compute alone meanwhile."""
    engines = [engine_of(random_model(LARGE["llama"]), "q4") for _ in range(3)]
    prompts = [random_ids(5 + 9 * i, 1280, seed=i) for i in range(6)]
    with with_threads(8):
        alone = answers(engines[0], prompts)
        with ThreadPoolExecutor(len(engines)) as pool:
            assert list(pool.map(lambda engine: answers(engine, prompts), engines)) == [alone] * len(engines)


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize(
    ("kind", "width"), [("Q4_0", "q4"), ("Q4_1", "q4"), ("Q8_0", "q8"), ("Q8_0", "q4"), ("Q4_0", "q8")]
)
def test_blocks_of_a_file_keep_their_values(kind: str, width: Width) -> None:
    """Where the width fits, packed blocks go over unchanged: the twin of the expanded model, unrounded."""
    gguf = pytest.importorskip("gguf", reason="the extra gguf is not installed")
    number = gguf.GGMLQuantizationType[kind]
    model = model_of("llama")
    scratch = Scratch()
    for module in model.layers.modules():
        if isinstance(module, Linear) and module.shape[1] % 32 == 0:
            data = gguf.quants.quantize(module.weight.detach().numpy(), number)
            blocks = GgufBlocks(kind, module.shape, torch.from_numpy(data.reshape(-1)))
            module.pack(blocks, scratch)
    expanded = model_of("llama")
    with torch.no_grad():
        for one, other in zip(model.layers.modules(), expanded.layers.modules(), strict=True):
            if isinstance(one, Linear) and isinstance(other, Linear):
                other.weight.copy_(one.matrix(torch.float32))
    twin = compute_copy(expanded, width)
    if kind[:2] == width.upper():
        with torch.no_grad():
            for one, other in zip(twin.layers.modules(), model.layers.modules(), strict=True):
                if isinstance(one, Linear) and isinstance(other, Linear) and other.packed is not None:
                    one.weight.copy_(other.matrix(torch.float32))
    assert gaps(engine_of(model, width, "fp32"), twin).mean() < 0.005


def test_rounding_by_hand() -> None:
    x = torch.tensor([[0.0] * 30 + [1.27, -0.635], [3.0] * 32])
    bytes8 = rounded_rows(x)
    assert torch.allclose(bytes8[0, 30:], torch.tensor([1.27, -0.64])) and torch.equal(bytes8[1], x[1])
    w = torch.linspace(0, 15, 32).repeat(2, 1)[:, :20]
    nibbles = rounded(w, "q4")
    assert nibbles.shape == (2, 20) and (nibbles - w).abs().max() <= 15 / 31 * 19 / 15 / 2 + 0.01
    assert rounded(torch.zeros(1, 5), "q4").tolist() == rounded(torch.zeros(1, 5), "q8").tolist() == [[0.0] * 5]
