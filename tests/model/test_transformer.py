"""The decoder as a whole: multi-token prediction by hand, initialisation from a seed."""

from __future__ import annotations

import mmap
from dataclasses import replace
from pathlib import Path

import torch

from raison.model import layers
from raison.model.layout import Layout
from raison.model.memory import lazy_zeros, materialise
from raison.model.rope import rotation
from raison.model.transformer import Transformer, initialise
from tests.shapes import FAMILY_SHAPES, SMALL, random_ids, random_model


@torch.no_grad()
def test_mtp_module_by_hand() -> None:
    """[enorm(embedding) ; hnorm(state)] through eh_proj, one routed block, its own norm, the shared head."""
    model, ids = random_model(SMALL), random_ids(9)
    layout = Layout.of([8])
    rot = rotation(SMALL, layout.positions_N)
    states, _ = model.hidden(torch.tensor(ids[:8]), layout.positions_N, layout)
    (module,) = model.predictors()
    out, routing = module(states, model.embed(torch.tensor(ids[1:])), rot, layout)
    left, right = module.eh_proj.weight.split(SMALL.hidden_size, dim=1)
    joined = module.enorm(model.embed_tokens[ids[1:]]) @ left.T + module.hnorm(states) @ right.T
    expected, _ = module.block(joined, rot, layout)
    assert torch.allclose(out, expected, atol=1e-5)
    assert routing is not None
    assert routing.experts_NK.shape == (8, SMALL.num_experts_per_tok)
    logits = model.logits(out, module.norm)
    assert torch.allclose(logits, module.norm(out) @ model.head.T, atol=1e-5)
    assert logits.shape == (8, 99)


@torch.no_grad()
def test_later_tokens_change_nothing_before_them() -> None:
    model, ids = random_model(SMALL), random_ids(12)
    changed = [*ids[:8], *random_ids(4, seed=9)]
    before, after = model.score(ids), model.score(changed)
    assert (before[:8] - after[:8]).abs().max() < 1e-5
    assert (before[8:] - after[8:]).abs().max() > 1e-2


def test_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = initialise(Transformer(SMALL), 3).state_dict()
    torch.manual_seed(2)
    two = initialise(Transformer(SMALL), 3).state_dict()
    other = initialise(Transformer(SMALL), 4).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["embed_tokens"], other["embed_tokens"])
    assert abs(float(one["layers.0.self_attn.o_proj.weight"].std()) / SMALL.initializer_range - 1) < 0.1


def test_norm_is_pytorchs_and_its_gradient_the_numerical_one() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 7, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(7, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t, w: layers._Normalise.apply(t, w, 1e-6), (x, weight))
    norm = layers.RMSNorm(7, 1e-6)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 1e-2)):
        y = x.detach().to(dtype)
        expected = torch.nn.functional.rms_norm(y.float(), (7,), norm.weight, 1e-6)
        assert torch.allclose(norm(y).float(), expected, atol=tolerance)
        with torch.no_grad():
            assert torch.equal(norm(y), norm(y.clone().requires_grad_()).detach())
    assert norm(torch.zeros(2, 7)).abs().max() == 0


def test_room_is_zero_tied_and_taken_where_it_is_touched() -> None:
    spec = replace(FAMILY_SHAPES["llama"], tie_word_embeddings=True)
    with torch.device("meta"):
        model = Transformer(spec)
    shapes = {name: (x.shape, x.dtype) for name, x in model.state_dict().items()}
    materialise(model)
    assert {name: (x.shape, x.dtype) for name, x in model.state_dict().items()} == shapes
    assert all(not x.any() and x.data_ptr() % 64 == 0 for x in model.state_dict().values())
    assert all(isinstance(p, torch.nn.Parameter) and p.requires_grad for p in model.parameters())

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    if Path("/proc/self/statm").exists():
        before = resident()
        room = lazy_zeros((1 << 14, 1 << 14), torch.float32)
        room[5000] = 1.0
        assert room[5000].sum() == 1 << 14 and room[4999].sum() == 0
        assert resident() - before < 1 << 26
    assert lazy_zeros((0, 4), torch.float32).shape == (0, 4)
