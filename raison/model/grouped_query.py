"""Grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245): several query heads share a key and a value head.

Biases on the projections (Qwen2), a norm over each head's query and key (Qwen3), either kind of rotary pairs. A cache
keeps all key heads, rotated, then all value heads. Not covered: sliding windows, attention sinks.

Legend: N tokens, H heads, G key-value heads, J = H/G heads that share one, E width of a head, W = 2*G*E cache width,
S sequences of a group, Q query tokens of each, L cached tokens of the longest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raison.model.attention import CacheGroup, LayerCache, attend, causal_by_bucket
from raison.model.layers import Linear, RMSNorm
from raison.model.layout import Layout
from raison.model.rope import rotate, rotate_halves
from raison.model.spec import ModelSpec


class GroupedQueryAttention(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        width, head = spec.hidden_size, spec.qk_head_dim
        queries, keys = spec.num_attention_heads * head, spec.key_value_heads * head
        self.q_proj = Linear(width, queries, spec.qkv_bias)
        self.k_proj = Linear(width, keys, spec.qkv_bias)
        self.v_proj = Linear(width, keys, spec.qkv_bias)
        self.o_proj = Linear(queries, width, spec.o_bias)
        self.q_norm = RMSNorm(head, spec.rms_norm_eps) if spec.qk_norm else None
        self.k_norm = RMSNorm(head, spec.rms_norm_eps) if spec.qk_norm else None

    def forward(self, x_ND: Tensor, rotation: Tensor, context: Layout | LayerCache) -> Tensor:
        """Causal attention within each document of a layout, or over a cache; [N, D] -> [N, D]."""
        q_NHE = self._heads(self.q_proj, self.q_norm, x_ND, rotation)
        k_NGE = self._heads(self.k_proj, self.k_norm, x_ND, rotation)
        v_NGE = self.v_proj(x_ND).unflatten(-1, (-1, self.spec.qk_head_dim))
        if isinstance(context, Layout):
            shared = self.spec.num_attention_heads // self.spec.key_value_heads
            k_NHE, v_NHE = (t.repeat_interleave(shared, dim=1) for t in (k_NGE, v_NGE))
            seen_NHE = causal_by_bucket(q_NHE, k_NHE, v_NHE, context, self.spec.softmax_scale)
        else:
            context.write(torch.cat((k_NGE, v_NGE), dim=1).flatten(1))
            seen_NHE = torch.cat([self._attend(q_NHE[g.start : g.stop], g) for g in context.groups()])
        out: Tensor = self.o_proj(seen_NHE.flatten(1))
        return out

    def _heads(self, projection: nn.Module, norm: nn.Module | None, x_ND: Tensor, rotation: Tensor) -> Tensor:
        heads: Tensor = projection(x_ND).unflatten(-1, (-1, self.spec.qk_head_dim))
        heads = heads if norm is None else norm(heads)
        return rotate(heads, rotation) if self.spec.rope_interleave else rotate_halves(heads, rotation)

    def _attend(self, q_nHE: Tensor, group: CacheGroup) -> Tensor:
        groups, head, queries = self.spec.key_value_heads, self.spec.qk_head_dim, group.bias_SQL.shape[1]
        kv_SLGE = group.keys_SLW.unflatten(-1, (2 * groups, head))
        k_SGLE, v_SGLE = kv_SLGE.transpose(1, 2).split(groups, dim=1)
        q_SQGJE = q_nHE.reshape(group.sequences, queries, groups, q_nHE.shape[1] // groups, head)
        q_SGKE = q_SQGJE.transpose(1, 2).flatten(2, 3)  # K = Q * J: all that read one key head
        seen_SGKE = attend(q_SGKE, k_SGLE, v_SGLE, group, self.spec.softmax_scale)
        seen_SQGJE = seen_SGKE.unflatten(2, (queries, -1)).transpose(1, 2)
        seen_nHE: Tensor = seen_SQGJE.reshape(len(q_nHE), -1, head)
        return seen_nHE
