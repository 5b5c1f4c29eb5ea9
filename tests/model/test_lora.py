"""Adapters: nothing at first, merged equals unmerged, gradients where they belong and right, the engine sees them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from raison.engine.device import CPU
from raison.engine.engine import Engine
from raison.engine.kernels.native import library
from raison.engine.native_runner import NativeRunner
from raison.engine.settings import EngineSettings
from raison.engine.twin import DTYPES, Dtype, compute_copy, device_copy, refresh_copy, refresh_device_copy
from raison.errors import UserError
from raison.model.layers import Linear
from raison.model.lora import adapters, attach, merge
from raison.model.moe import PARTS, Experts, PackedExpert
from raison.model.packed import Mapped, Scratch
from raison.model.transformer import PackedTables, Transformer
from raison.weights.huggingface import export_tensors
from tests.engine.small import SPEC, TOKENIZER, params, prompt
from tests.shapes import FAMILY_SHAPES, SHAPES, absorbed_logits, random_ids, random_model

ALL = {**SHAPES, **FAMILY_SHAPES}
ROUTED = [name for name, spec in ALL.items() if spec.n_routed_experts]
IDS = random_ids(40)


def stir(model: Transformer, seed: int = 5, size: float = 0.1) -> None:
    """Adapters as after some training: both factors away from zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for adapter in adapters(model).values():
            adapter.a.normal_(0, size, generator=generator)
            adapter.b.normal_(0, size, generator=generator)


def adapted(shape: str, targets: tuple[str, ...] = ()) -> Transformer:
    model = random_model(ALL[shape])
    attach(model, rank=3, alpha=12.0, targets=targets)
    stir(model)
    return model


def pack(model: Transformer) -> Transformer:
    """Every matrix packed, as a load of a model too large for memory leaves them."""
    scratch = Scratch()
    embedding, head = (Mapped(table.detach().clone()) for table in (model.embed_tokens, model.head))
    model.pack(PackedTables(embedding, embedding if model.lm_head is None else head, scratch))
    for module in model.modules():
        if isinstance(module, Linear):
            module.pack(Mapped(module.weight.detach().clone()), scratch)
        elif isinstance(module, Experts):
            gates, downs = (p.detach().clone() for p in (module.gate_up_proj, module.down_proj))
            halves = [(*gate.chunk(2), down) for gate, down in zip(gates, downs, strict=True)]
            module.pack([PackedExpert(*map(Mapped, three)) for three in halves], scratch)
    return model


def random_packed(shape: str) -> Transformer:
    return pack(random_model(ALL[shape]))


def loss(model: Transformer) -> Tensor:
    weights = torch.sin(torch.arange(len(IDS) * model.spec.vocab_size)).view(len(IDS), -1)
    return (model.score(IDS).log_softmax(-1) * weights).sum()


@pytest.mark.parametrize("shape", ALL)
@torch.no_grad()
def test_at_first_nothing_changes(shape: str) -> None:
    model = random_model(ALL[shape])
    before = model.score(IDS)
    attach(model, 4, 8.0)
    assert (model.score(IDS) - before).abs().max() < 1e-5  # 0 but for experts, whose halves lie otherwise in memory
    stir(model)
    assert (model.score(IDS) - before).abs().max() > 1e-2


@pytest.mark.parametrize("shape", ALL)
@torch.no_grad()
def test_merged_is_unmerged_whole_and_through_a_cache(shape: str) -> None:
    model = adapted(shape)
    names = set(random_model(ALL[shape]).state_dict())
    whole, cached = model.score(IDS), absorbed_logits(model, IDS, (25, 1, 14))
    merge(model)
    assert not adapters(model) and set(model.state_dict()) == names
    assert all(p.requires_grad for p in model.parameters())
    merged = model.score(IDS)
    assert (merged - whole).abs().max() < 1e-4
    assert (merged - cached).abs().max() < 1e-4
    assert len(export_tensors(model)) > 10


@pytest.mark.parametrize("shape", ["groups", "plain_queries", "qwen2", "qwen3_moe"])
def test_a_packed_base_computes_and_learns_the_same(shape: str) -> None:
    plain = adapted(shape)
    packed = pack(random_model(ALL[shape]))
    attach(packed, 3, 12.0)
    stir(packed)
    for model in (plain, packed):
        loss(model).backward()  # type: ignore[no-untyped-call]
    assert (plain.score(IDS) - packed.score(IDS)).abs().max() < 1e-4
    for name, adapter in adapters(plain).items():
        other = adapters(packed)[name]
        for one, two in ((adapter.a, other.a), (adapter.b, other.b)):
            assert one.grad is not None and two.grad is not None
            torch.testing.assert_close(two.grad, one.grad, rtol=1e-3, atol=1e-4, msg=name)
    with torch.no_grad():
        assert (absorbed_logits(packed, IDS, (25, 15)) - plain.score(IDS)).abs().max() < 1e-4
        with pytest.raises(AssertionError, match="packed"):
            export_tensors(random_packed(shape))
        merge(packed)
        assert (packed.score(IDS) - plain.score(IDS)).abs().max() < 1e-4
        assert dict(packed.named_parameters()).keys() == dict(random_model(ALL[shape]).named_parameters()).keys()
        assert all(tensor.numel() for tensor in export_tensors(packed).values())


@pytest.mark.parametrize("shape", ["groups", "two_shared_experts", "v2", "qwen2", "qwen3_moe"])
def test_gradients_are_those_of_the_explicit_sum(shape: str) -> None:
    """Against the gradient G of a model whose weights are the sums W + s B A: dA = s B^T G, dB = s G A^T."""
    model = adapted(shape)
    loss(model).backward()  # type: ignore[no-untyped-call]
    explicit = adapted(shape)
    merge(explicit)
    loss(explicit).backward()  # type: ignore[no-untyped-call]
    wanted = dict(_gradients(explicit))
    for name, adapter in adapters(model).items():
        G, s = wanted[name], adapter.scale
        assert adapter.a.grad is not None and adapter.b.grad is not None and G.abs().max() > 0
        torch.testing.assert_close(adapter.a.grad, s * adapter.b.mT @ G, rtol=1e-3, atol=2e-4, msg=name)
        torch.testing.assert_close(adapter.b.grad, s * G @ adapter.a.mT, rtol=1e-3, atol=2e-4, msg=name)
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, _ in model.named_parameters() if ".lora." in name}


def _gradients(model: Transformer) -> list[tuple[str, Tensor]]:
    found = []
    for name, module in model.layers.named_modules(prefix="layers"):
        if isinstance(module, Linear):
            assert module.weight.grad is not None
            found.append((name, module.weight.grad))
        elif isinstance(module, Experts):
            assert module.gate_up_proj.grad is not None and module.down_proj.grad is not None
            three = (*module.gate_up_proj.grad.chunk(2, dim=1), module.down_proj.grad)
            found += [(f"{name}.{part}", grad) for part, grad in zip(PARTS, three, strict=True)]
    return found


def test_gradients_in_bf16_follow_those_in_fp32() -> None:
    """Rows are padded there and factors are cast: directions must agree, not digits."""
    from raison.model.layout import Layout

    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        model, layout = adapted("all_dense"), Layout.of([len(IDS)])
        states, _ = model.hidden(torch.tensor(IDS), layout.positions_N, layout, dtype)
        model.logits(states).log_softmax(-1)[:, 7].sum().backward()  # type: ignore[no-untyped-call]
        gradients.append(torch.cat([a.b.grad.flatten() for a in adapters(model).values() if a.b.grad is not None]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.98


@pytest.mark.parametrize("shape", ROUTED)
def test_targets_are_ends_of_names(shape: str) -> None:
    def names(*targets: str) -> set[str]:
        model = random_model(ALL[shape])
        attach(model, 2, 2.0, targets)
        return set(adapters(model))

    gates, routed = names("gate_proj"), names("experts.gate_proj")
    assert routed < gates or ALL[shape].first_k_dense_replace == 0
    assert all(".mlp.experts." in name for name in routed) and all(name.endswith("gate_proj") for name in gates)
    assert not any("mtp" in name for name in names())
    assert len(names("o_proj")) == ALL[shape].num_hidden_layers


def test_a_target_that_names_nothing_is_refused_and_changes_nothing() -> None:
    model = random_model(ALL["qwen2"])
    with pytest.raises(UserError, match=r'the target "q_porj".* did you mean "q_proj"'):
        attach(model, 2, 2.0, ("k_proj", "q_porj"))
    with pytest.raises(UserError, match="no such projection"):
        attach(model, 2, 2.0, ("roj",))
    assert not adapters(model) and all(p.requires_grad for p in model.parameters())


def test_factors_come_from_the_seed_alone() -> None:
    def factors(seed: int) -> list[Tensor]:
        torch.manual_seed(seed + 100)
        model = random_model(ALL["groups"])
        attach(model, 2, 2.0, seed=seed)
        return [adapter.a.detach() for adapter in adapters(model).values()]

    assert all(torch.equal(*pair) for pair in zip(factors(1), factors(1), strict=True))
    assert not torch.equal(factors(1)[0], factors(2)[0])


def test_adapters_do_not_slip_into_a_checkpoint() -> None:
    with pytest.raises(AssertionError, match="merge"):
        export_tensors(adapted("qwen2"))


@pytest.mark.parametrize("shape", ["native", *FAMILY_SHAPES])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_engine_samples_from_the_adapted_model(shape: str, dtype: str) -> None:
    """Made before the adapters change, told by update_weights; in fp32 the trainer's log-probabilities to 1e-4."""
    spec = SPEC if shape == "native" else replace(FAMILY_SHAPES[shape], vocab_size=1280)
    model = random_model(spec)
    attach(model, 3, 12.0)
    engine = Engine(model, TOKENIZER, EngineSettings(page_size=4, cache_tokens=2048, max_batch=16, dtype=dtype))  # type: ignore[arg-type]
    if shape == "native" and dtype == "fp32" and library().handle is not None:
        assert isinstance(engine._runner, NativeRunner)
    start = prompt(17, 1)
    engine.generate([start], params(1))
    stir(model)
    engine.update_weights()
    (completion,) = engine.generate([start], params(1))[0]
    with torch.no_grad():
        logits = model.score([*start, *completion.token_ids])[len(start) - 1 : -1]
    expected = logits.log_softmax(-1).gather(1, torch.tensor(completion.token_ids)[:, None]).squeeze(1)
    gap = (expected - torch.tensor(completion.logprobs)).abs()
    assert gap.max() < 1e-4 if dtype == "fp32" else gap.mean() < 0.3


@torch.no_grad()
@pytest.mark.parametrize("shape", FAMILY_SHAPES)
def test_a_bf16_twin_holds_the_merged_weights_and_leaves_packed_ones_packed(shape: str) -> None:
    model = random_model(ALL[shape])
    attach(model, rank=3, alpha=12.0, targets=["o_proj"])
    pack(model)
    twin = compute_copy(model, "bf16")
    stir(model)
    refresh_copy(model, twin, "bf16")
    merged = random_model(ALL[shape])
    attach(merged, rank=3, alpha=12.0, targets=["o_proj"])
    stir(merged)
    merge(merged)
    assert not adapters(twin) and adapters(model)
    for name, module in twin.layers.named_modules():
        if isinstance(module, Linear):
            wanted = merged.layers.get_submodule(name).weight.to(torch.bfloat16)  # type: ignore[union-attr,operator]
            assert (module.packed is None) == name.endswith("o_proj")
            assert torch.equal(module.matrix(torch.bfloat16), wanted)
    assert twin.embed_tokens is model.embed_tokens


@torch.no_grad()
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", FAMILY_SHAPES)
def test_a_device_copy_is_the_merged_model_with_nothing_packed(shape: str, dtype: Dtype) -> None:
    model = random_model(ALL[shape])
    attach(model, rank=3, alpha=12.0, targets=["o_proj"])
    pack(model)
    twin = device_copy(model, dtype, CPU)
    stir(model)
    refresh_device_copy(model, twin, dtype)
    merged = random_model(ALL[shape])
    attach(merged, rank=3, alpha=12.0, targets=["o_proj"])
    stir(merged)
    merge(merged)
    wanted = {name: tensor for name, tensor in merged.state_dict().items() if not name.startswith("mtp.")}
    held = twin.state_dict()
    assert held.keys() == wanted.keys() and not adapters(twin)
    for name, tensor in held.items():
        exact = "norm" in name or name.endswith(("mlp.gate.weight", "e_score_correction_bias"))
        assert torch.equal(tensor, wanted[name].to(torch.float32 if exact else DTYPES[dtype])), name
