"""Latent attention against its equations, spelt out for one head and one query at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raison.model.autograd import PickRows, SpreadRows
from raison.model.layout import Layout
from raison.model.mla import MultiHeadLatentAttention
from raison.model.rope import rotate, rotation
from raison.model.spec import ModelSpec
from tests.shapes import SHAPES, SMALL, OneDocument


def attention(spec: ModelSpec) -> MultiHeadLatentAttention:
    made = MultiHeadLatentAttention(spec)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in made.state_dict().items():
            if "norm" in name:
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                tensor.normal_(0.0, 0.2, generator=generator)
    return made


def by_the_equations(attn: MultiHeadLatentAttention, x: Tensor) -> Tensor:
    """DeepSeek-V3 report eq. 1-11, head by head; rows of kv_b_proj stand per head as [nope | value]."""
    spec, length = attn.spec, len(x)
    rot = rotation(spec, torch.arange(length))
    both = x @ attn.kv_a_proj_with_mqa.weight.T
    latent = attn.kv_a_layernorm(both[:, : spec.kv_lora_rank])
    shared_key = rotate(both[:, None, spec.kv_lora_rank :], rot)[:, 0]
    q = x @ attn.q_proj.weight.T if spec.q_lora_rank is None else attn.q_b_proj(attn.q_a_layernorm(attn.q_a_proj(x)))
    rows = spec.qk_nope_head_dim + spec.v_head_dim
    heads = []
    for h in range(spec.num_attention_heads):
        q_h = q[:, h * spec.qk_head_dim : (h + 1) * spec.qk_head_dim]
        q_rope = rotate(q_h[:, None, spec.qk_nope_head_dim :], rot)[:, 0]
        up = attn.kv_b_proj.weight[h * rows : (h + 1) * rows]
        keys, values = latent @ up[: spec.qk_nope_head_dim].T, latent @ up[spec.qk_nope_head_dim :].T
        scores = (q_h[:, : spec.qk_nope_head_dim] @ keys.T + q_rope @ shared_key.T) * spec.softmax_scale
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        heads.append(scores.masked_fill(future, -torch.inf).softmax(-1) @ values)
    return torch.cat(heads, dim=-1) @ attn.o_proj.weight.T


@pytest.mark.parametrize("shape", ["groups", "plain_queries", "yarn_ratio"])
@torch.no_grad()
def test_both_forms_are_the_equations(shape: str) -> None:
    spec = SHAPES[shape]
    attn, x = attention(spec), torch.randn(13, spec.hidden_size, generator=torch.Generator().manual_seed(6))
    expected = by_the_equations(attn, x)
    rot = rotation(spec, torch.arange(13))
    assert torch.allclose(attn.naive(x, rot, Layout.of([13])), expected, atol=1e-5)
    assert torch.allclose(attn.absorbed(x, rot, OneDocument(spec.cache_width)), expected, atol=1e-5)


@torch.no_grad()
def test_the_cache_holds_the_normed_latent_and_the_turned_key() -> None:
    attn, x = attention(SMALL), torch.randn(4, SMALL.hidden_size, generator=torch.Generator().manual_seed(6))
    cache = OneDocument(SMALL.cache_width)
    rot = rotation(SMALL, torch.arange(4))
    attn.absorbed(x, rot, cache)
    latent, key = attn.kv_a_proj_with_mqa(x).split((SMALL.kv_lora_rank, SMALL.qk_rope_head_dim), dim=-1)
    assert torch.allclose(cache.keys_LW[:, : SMALL.kv_lora_rank], attn.kv_a_layernorm(latent), atol=1e-6)
    assert torch.allclose(cache.keys_LW[:, SMALL.kv_lora_rank :], rotate(key[:, None], rot)[:, 0], atol=1e-6)


@torch.no_grad()
def test_plain_bf16_attention_is_the_fused_one() -> None:
    """bf16 takes another path on a CPU; 8 bits of mantissa leave about 1 % of the output's size."""
    attn, x = attention(SMALL), torch.randn(40, SMALL.hidden_size, generator=torch.Generator().manual_seed(6))
    rot, layout = rotation(SMALL, torch.cat([torch.arange(15), torch.arange(25)])), Layout.of([15, 25], 0.9)
    exact = attn.naive(x, rot, layout)
    rounded = attn.naive(x.bfloat16(), rot, layout).float()
    assert (rounded - exact).norm() < 0.02 * exact.norm()


def test_padding_gradients_are_the_numerical_ones() -> None:
    places = torch.tensor([0, 1, 4, 5, 6])
    rows = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    padded = torch.randn(8, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: SpreadRows.apply(t, places, 8), (rows,))
    assert torch.autograd.gradcheck(lambda t: PickRows.apply(t, places), (padded,))


def test_buckets_hold_every_token_once_and_round_up_to_few_shapes() -> None:
    lengths = (3, 4, 5, 5, 19, 40, 40)
    layout = Layout.of(lengths, 0.25, padding=3)
    assert layout.positions_N.tolist()[-4:] == [39, 0, 0, 0]
    assert layout.buckets[0].start == 0
    assert all(a.stop == b.start for a, b in zip(layout.buckets, layout.buckets[1:], strict=False))
    assert layout.buckets[-1].stop == sum(lengths)
    for bucket in layout.buckets:
        lone = bucket.places_n is None
        assert lone or (bucket.documents % 8 == 0 and bucket.longest % 32 == 0)
        x = torch.arange(float(sum(lengths))).reshape(-1, 1, 1)
        assert torch.equal(bucket.unpad(bucket.pad(x)), x[bucket.start : bucket.stop])
