"""What both kinds of attention share: how a cache looks to a layer, and causal attention within documents.

Not covered: the two kinds themselves (mla.py, grouped_query.py), sliding windows.

Legend: N tokens, H heads, E width of a head's query and key, V of its value, D documents of a bucket, L their longest,
S sequences of a group, Q query tokens of each, W cache width, G key heads, J heads that share one, K = Q*J.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from raison.model.layout import Layout

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
    fused: bool = False
    """Whether PyTorch's fused attention is to be used. On a CPU plain products are faster."""


class LayerCache(Protocol):
    """One layer's share of a latent cache, as the model sees it."""

    def write(self, latents_NW: Tensor) -> None:
        """Store this step's tokens."""
        ...

    def groups(self) -> Iterable[CacheGroup]:
        """What to attend to, this step's tokens included."""
        ...


def causal_by_bucket(q_NHE: Tensor, k_NHE: Tensor, v_NHV: Tensor, layout: Layout, scale: float) -> Tensor:
    runs = []
    for bucket in layout.buckets:
        q, k, v = (bucket.pad(t) for t in (q_NHE, k_NHE, v_NHV))
        runs.append(bucket.unpad(_causal_attention(q, k, v, scale)))
    if layout.padding:
        runs.append(v_NHV.new_zeros(layout.padding, *v_NHV.shape[1:]))
    return torch.cat(runs) if len(runs) > 1 else runs[0]


def attend(q_SGKE: Tensor, k_SGLE: Tensor, v_SGLV: Tensor, group: CacheGroup, scale: float) -> Tensor:
    """Attention of a group's queries over its cached tokens, [S, G, K, V]; the J heads of a query stand together."""
    bias_S1Q1L, queries = group.bias_SQL.unsqueeze(1).unsqueeze(3), group.bias_SQL.shape[1]
    if group.fused:
        bias_S1KL = bias_S1Q1L.expand(-1, -1, -1, q_SGKE.shape[2] // queries, -1).flatten(2, 3)
        return F.scaled_dot_product_attention(q_SGKE, k_SGLE, v_SGLV, attn_mask=bias_S1KL, scale=scale)
    scores_SGKL = torch.matmul(q_SGKE * scale, k_SGLE.transpose(-1, -2))
    scores_SGQJL = scores_SGKL.unflatten(2, (queries, -1)) + bias_S1Q1L
    return torch.matmul(scores_SGQJL.softmax(-1).flatten(2, 3), v_SGLV)


def _causal_attention(q_DHLE: Tensor, k_DHLE: Tensor, v_DHLV: Tensor, scale: float) -> Tensor:
    """Causal attention in each document. In bf16 on a CPU plain products beat the fused kernel 4:1 at 128 tokens."""
    length, width = q_DHLE.shape[-2], v_DHLV.shape[-1]
    if q_DHLE.dtype == torch.bfloat16 and q_DHLE.device.type == "cpu" and length <= PLAIN_ATTENTION_LENGTH:
        future_LL = torch.full((length, length), -torch.inf, dtype=q_DHLE.dtype).triu(1)
        scores_DHLL = torch.matmul(q_DHLE * scale, k_DHLE.transpose(-1, -2)) + future_LL
        return torch.matmul(scores_DHLL.softmax(-1), v_DHLV)
    v = F.pad(v_DHLV, (0, q_DHLE.shape[-1] - width))  # the fused kernels want one width for keys and values
    return F.scaled_dot_product_attention(q_DHLE, k_DHLE, v, is_causal=True, scale=scale)[..., :width]
