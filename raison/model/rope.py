"""Rotary position embedding on interleaved pairs, with YaRN's length extension.

Pairs are (x0, x1), (x2, x3), ... as in DeepSeek's own code; Hugging Face permutes the columns first and then rotates
halves, which gives the same scores. YaRN's interpolation is applied whenever the spec has it (as Hugging Face does),
not only beyond the original length (as DeepSeek's demonstration does). Not covered: Llama-3 scaling.

Legend: N tokens, H heads, R rotary width (even), P = R/2 pairs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from raison.model.spec import ModelSpec, YarnSpec


def inverse_frequencies(spec: ModelSpec) -> Tensor:
    """Angular speed of each rotary pair, [R/2] in fp32 radians per token (Su et al. 2021; YaRN eq. 14-23)."""
    width = spec.qk_rope_head_dim
    plain = 1.0 / spec.rope_theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    if spec.rope_scaling is None or spec.rope_scaling.factor <= 1:
        return plain
    keep = 1.0 - _ramp(spec.rope_scaling, width, spec.rope_theta)
    return plain / spec.rope_scaling.factor * (1.0 - keep) + plain * keep


def _ramp(yarn: YarnSpec, width: int, theta: float) -> Tensor:
    """0 where a pair turns often enough to be left alone, 1 where it is fully interpolated, linear between."""

    def pair_that_turns(times: float) -> float:
        turns = yarn.original_max_position_embeddings / (times * 2 * math.pi)
        return width * math.log(turns) / (2 * math.log(theta))

    low = max(math.floor(pair_that_turns(yarn.beta_fast)), 0)
    high = min(math.ceil(pair_that_turns(yarn.beta_slow)), width - 1)
    pairs = torch.arange(width // 2, dtype=torch.float32)
    return ((pairs - low) / max(high - low, 0.001)).clamp(0, 1)


def rotation(spec: ModelSpec, positions_N: Tensor) -> Tensor:
    """cos + i sin of every token's angles, [N, 1, R/2] in complex fp32."""
    angles = torch.outer(positions_N.float(), inverse_frequencies(spec).to(positions_N.device))
    ratio = torch.full_like(angles, _attention_factor(spec.rope_scaling))
    return torch.polar(ratio, angles).unsqueeze(1)


def _attention_factor(yarn: YarnSpec | None) -> float:
    """mscale over mscale_all_dim: 1 for every published DeepSeek model, whose temperature sits in the softmax scale."""
    if yarn is None or yarn.factor <= 1:
        return 1.0
    log_factor = 0.1 * math.log(yarn.factor)
    return (log_factor * yarn.mscale + 1.0) / (log_factor * yarn.mscale_all_dim + 1.0)


def rotate(x_NHR: Tensor, rotation_N1P: Tensor) -> Tensor:
    """Turn every interleaved pair of `x_NHR` by its token's angles; same shape and dtype out."""
    pairs = torch.view_as_complex(x_NHR.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation_N1P).flatten(-2).to(x_NHR.dtype)
