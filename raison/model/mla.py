"""Multi-head latent attention (DeepSeek-V3 report, eq. 1-11), in two forms that give the same numbers.

Naive (training): keys and values are expanded from the latent for every head. Absorbed (decoding): W_UK is folded
into the query and W_UV into the output, so that only the normed latent and one shared rotary key are cached per
token, and all heads read them. Not covered: attention over a cache in the naive form, FP8 caches.

Legend: N tokens, H heads, C kv_lora_rank, P qk_nope_head_dim, R qk_rope_head_dim, E = P+R, V v_head_dim, W = C+R
cache width, S sequences of a group, Q query tokens of each, L cached tokens of the longest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raison.model.attention import CacheGroup, LayerCache, attend, causal_by_bucket
from raison.model.layers import Linear, RMSNorm
from raison.model.layout import Layout
from raison.model.rope import rotate
from raison.model.spec import ModelSpec

Rotation = Tensor


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
        self.kv_a_layernorm = RMSNorm(spec.latent_rank, spec.rms_norm_eps)
        self.kv_b_proj = Linear(spec.latent_rank, heads * (spec.qk_nope_head_dim + spec.v_head_dim))
        self.o_proj = Linear(heads * spec.v_head_dim, width)

    def forward(self, x_ND: Tensor, rotation: Tensor, context: Layout | LayerCache) -> Tensor:
        """Naive over whole documents, absorbed over a cache."""
        if isinstance(context, Layout):
            return self.naive(x_ND, rotation, context)
        return self.absorbed(x_ND, rotation, context)

    def naive(self, x_ND: Tensor, rotation: Tensor, layout: Layout) -> Tensor:
        """Causal attention within each document of `layout`; [N, D] -> [N, D]."""
        spec, heads = self.spec, self.spec.num_attention_heads
        nope_NHP, rope_NHR = self._queries(x_ND, rotation)
        latent_NC, key_NR = self._latents(x_ND, rotation)
        expanded = self.kv_b_proj(latent_NC).view(-1, heads, spec.qk_nope_head_dim + spec.v_head_dim)
        keys_NHP, values_NHV = expanded.split((spec.qk_nope_head_dim, spec.v_head_dim), dim=-1)
        q_NHE = torch.cat((nope_NHP, rope_NHR), dim=-1)
        k_NHE = torch.cat((keys_NHP, key_NR.unsqueeze(1).expand(-1, heads, -1)), dim=-1)
        out_NHV = causal_by_bucket(q_NHE, k_NHE, values_NHV, layout, spec.softmax_scale)
        out: Tensor = self.o_proj(out_NHV.flatten(1))
        return out

    def absorbed(self, x_ND: Tensor, rotation: Tensor, cache: LayerCache) -> Tensor:
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
        heads, rank = self.spec.num_attention_heads, self.spec.latent_rank
        q_S1KW = q_nHW.reshape(group.sequences, 1, -1, self.spec.cache_width)  # K = Q * H: one shared key for all heads
        keys_S1LW = group.keys_SLW.unsqueeze(1)
        seen_S1KW = attend(q_S1KW, keys_S1LW, keys_S1LW, group, self.spec.softmax_scale)  # a slice would be a copy
        return seen_S1KW[..., :rank].reshape(-1, heads, rank)

    def _queries(self, x_ND: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        spec = self.spec
        if spec.q_lora_rank is None:
            q = self.q_proj(x_ND)
        else:
            q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x_ND)))
        q_NHE = q.view(-1, spec.num_attention_heads, spec.qk_head_dim)
        nope, rope = q_NHE.split((spec.qk_nope_head_dim, spec.qk_rope_head_dim), dim=-1)
        return nope, rotate(rope, rotation)

    def _latents(self, x_ND: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """The normed latent [N, C] and the rotated shared key [N, R]: all that a cache keeps. The norm spares the
        key.
        """
        both = self.kv_a_proj_with_mqa(x_ND)
        latent, key = both.split((self.spec.latent_rank, self.spec.qk_rope_head_dim), dim=-1)
        return self.kv_a_layernorm(latent), rotate(key.unsqueeze(1), rotation).squeeze(1)

    def _up_projections(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """kv_b_proj's rows stand per head as [P nope | V value]: W_UK [H, P, C] and W_UV transposed [H, C, V]."""
        spec = self.spec
        per_head = self.kv_b_proj.matrix(dtype).view(spec.num_attention_heads, -1, spec.latent_rank)
        up_k, up_v = per_head.split((spec.qk_nope_head_dim, spec.v_head_dim), dim=1)
        return up_k, up_v.transpose(1, 2)
