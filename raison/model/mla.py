"""Multi-head latent attention (DeepSeek-V3 report, eq. 1-11), in two forms that give the same numbers.

Naive (training): keys and values are expanded from the latent for every head. Absorbed (decoding): W_UK is folded
into the query and W_UV into the output, so that only the normed latent and one shared rotary key are cached per
token, and all heads read them. Not covered: attention over a cache in the naive form, FP8 caches.

Legend: N tokens, H heads, C kv_lora_rank, P qk_nope_head_dim, R qk_rope_head_dim, E = P+R, V v_head_dim, W = C+R
cache width, S sequences of a group, Q query tokens of each, L cached tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raison.model.layers import Linear, RMSNorm
from raison.model.layout import Layout
from raison.model.rope import rotate
from raison.model.spec import ModelSpec

Rotation = Tensor
PLAIN_ATTENTION_LENGTH = 512


@dataclass(frozen=True, slots=True)
class CacheGroup:
    """Sequences that attend together: tokens [start, stop) of the flat batch are S sequences of Q queries each."""

    start: int
    stop: int
    sequences: int
    keys_SLW: Tensor
    bias_SQL: Tensor
    """0 where a query may look, -inf where it may not; in the compute dtype."""


class LayerCache(Protocol):
    """One layer's share of a latent cache, as the model sees it."""

    def write(self, latents_NW: Tensor) -> None:
        """Store this step's tokens."""
        ...

    def groups(self) -> Iterable[CacheGroup]:
        """What to attend to, this step's tokens included."""
        ...


class MultiHeadLatentAttention(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        heads, width = spec.num_attention_heads, spec.hidden_size
        if spec.q_lora_rank is None:
            self.q_proj = Linear(width, heads * spec.qk_head_dim)
        else:
            self.q_a_proj = Linear(width, spec.q_lora_rank)
            self.q_a_layernorm = RMSNorm(spec.q_lora_rank, spec.rms_norm_eps)
            self.q_b_proj = Linear(spec.q_lora_rank, heads * spec.qk_head_dim)
        self.kv_a_proj_with_mqa = Linear(width, spec.cache_width)
        self.kv_a_layernorm = RMSNorm(spec.kv_lora_rank, spec.rms_norm_eps)
        self.kv_b_proj = Linear(spec.kv_lora_rank, heads * (spec.qk_nope_head_dim + spec.v_head_dim))
        self.o_proj = Linear(heads * spec.v_head_dim, width)

    def naive(self, x_ND: Tensor, rotation: Rotation, layout: Layout) -> Tensor:
        """Causal attention within each document of `layout`; [N, D] -> [N, D]."""
        spec, heads = self.spec, self.spec.num_attention_heads
        nope_NHP, rope_NHR = self._queries(x_ND, rotation)
        latent_NC, key_NR = self._latents(x_ND, rotation)
        expanded = self.kv_b_proj(latent_NC).view(-1, heads, spec.qk_nope_head_dim + spec.v_head_dim)
        keys_NHP, values_NHV = expanded.split((spec.qk_nope_head_dim, spec.v_head_dim), dim=-1)
        q_NHE = torch.cat((nope_NHP, rope_NHR), dim=-1)
        k_NHE = torch.cat((keys_NHP, key_NR.unsqueeze(1).expand(-1, heads, -1)), dim=-1)
        out_NHV = _causal_by_bucket(q_NHE, k_NHE, values_NHV, layout, spec.softmax_scale)
        out: Tensor = self.o_proj(out_NHV.flatten(1))
        return out

    def absorbed(self, x_ND: Tensor, rotation: Rotation, cache: LayerCache) -> Tensor:
        """Attention over the latent cache, which this call extends by the N tokens first; [N, D] -> [N, D]."""
        up_HPC, up_HCV = self._up_projections(x_ND.dtype)
        nope_NHP, rope_NHR = self._queries(x_ND, rotation)
        cache.write(torch.cat(self._latents(x_ND, rotation), dim=-1))
        folded_NHC = torch.bmm(nope_NHP.transpose(0, 1), up_HPC).transpose(0, 1)
        q_NHW = torch.cat((folded_NHC, rope_NHR), dim=-1)
        seen_NHC = torch.cat([self._attend(q_NHW[g.start : g.stop], g) for g in cache.groups()])
        out_NHV = torch.bmm(seen_NHC.transpose(0, 1), up_HCV).transpose(0, 1)
        out: Tensor = self.o_proj(out_NHV.reshape(len(x_ND), -1))
        return out

    def _attend(self, q_nHW: Tensor, group: CacheGroup) -> Tensor:
        heads, rank = self.spec.num_attention_heads, self.spec.kv_lora_rank
        q_SJW = q_nHW.reshape(group.sequences, -1, self.spec.cache_width)  # J = Q * H: one shared key for all heads
        scores_SJL = torch.bmm(q_SJW * self.spec.softmax_scale, group.keys_SLW.transpose(1, 2))
        scores_SQHL = scores_SJL.unflatten(1, (-1, heads)) + group.bias_SQL.unsqueeze(2)
        weights_SJL = scores_SQHL.softmax(-1).flatten(1, 2)
        seen_SJW = torch.bmm(weights_SJL, group.keys_SLW)  # slicing the keys first would copy them
        return seen_SJW[..., :rank].reshape(-1, heads, rank)

    def _queries(self, x_ND: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor]:
        spec = self.spec
        if spec.q_lora_rank is None:
            q = self.q_proj(x_ND)
        else:
            q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x_ND)))
        q_NHE = q.view(-1, spec.num_attention_heads, spec.qk_head_dim)
        nope, rope = q_NHE.split((spec.qk_nope_head_dim, spec.qk_rope_head_dim), dim=-1)
        return nope, rotate(rope, rotation)

    def _latents(self, x_ND: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor]:
        """The normed latent [N, C] and the rotated shared key [N, R]: all that a cache keeps. The norm spares the
        key.
        """
        both = self.kv_a_proj_with_mqa(x_ND)
        latent, key = both.split((self.spec.kv_lora_rank, self.spec.qk_rope_head_dim), dim=-1)
        return self.kv_a_layernorm(latent), rotate(key.unsqueeze(1), rotation).squeeze(1)

    def _up_projections(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """kv_b_proj's rows stand per head as [P nope | V value]: W_UK [H, P, C] and W_UV transposed [H, C, V]."""
        spec = self.spec
        per_head = self.kv_b_proj.weight.to(dtype).view(spec.num_attention_heads, -1, spec.kv_lora_rank)
        up_k, up_v = per_head.split((spec.qk_nope_head_dim, spec.v_head_dim), dim=1)
        return up_k, up_v.transpose(1, 2)


def _causal_by_bucket(q_NHE: Tensor, k_NHE: Tensor, v_NHV: Tensor, layout: Layout, scale: float) -> Tensor:
    runs = []
    for bucket in layout.buckets:
        q, k, v = (bucket.pad(t) for t in (q_NHE, k_NHE, v_NHV))
        runs.append(bucket.unpad(_causal_attention(q, k, v, scale)))
    if layout.padding:
        runs.append(v_NHV.new_zeros(layout.padding, *v_NHV.shape[1:]))
    return torch.cat(runs) if len(runs) > 1 else runs[0]


def _causal_attention(q_DHLE: Tensor, k_DHLE: Tensor, v_DHLV: Tensor, scale: float) -> Tensor:
    """Causal attention in each document. In bf16 on a CPU plain products beat the fused kernel 4:1 at 128 tokens."""
    length, width = q_DHLE.shape[-2], v_DHLV.shape[-1]
    if q_DHLE.dtype == torch.bfloat16 and q_DHLE.device.type == "cpu" and length <= PLAIN_ATTENTION_LENGTH:
        future_LL = torch.full((length, length), -torch.inf, dtype=q_DHLE.dtype).triu(1)
        scores_DHLL = torch.matmul(q_DHLE * scale, k_DHLE.transpose(-1, -2)) + future_LL
        return torch.matmul(scores_DHLL.softmax(-1), v_DHLV)
    v = F.pad(v_DHLV, (0, q_DHLE.shape[-1] - width))  # the fused kernels want one width for keys and values
    return F.scaled_dot_product_attention(q_DHLE, k_DHLE, v, is_causal=True, scale=scale)[..., :width]
