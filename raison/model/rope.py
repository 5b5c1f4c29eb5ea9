"""Rotary position embedding, with the length extensions of YaRN and of Llama 3.1.

Pairs are neighbours (x0, x1), (x2, x3), ... in DeepSeek's models, and (x0, xP), (x1, xP+1), ... in Llama and Qwen; for
DeepSeek's Hugging Face permutes the columns first and then rotates halves, which gives the same scores. An extension
is applied whenever the spec has it (as Hugging Face does), not only beyond the original length (as DeepSeek's
demonstration does). Not covered: rotating a part of a head, scaling that changes with the length.

Legend: N tokens, H heads, R rotary width (even), P = R/2 pairs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from raison.model.spec import Llama3Spec, ModelSpec, YarnSpec


def inverse_frequencies(spec: ModelSpec, device: torch.device | None = None) -> Tensor:
    """Angular speed of each rotary pair, [R/2] in fp32 radians per token (Su et al. 2021)."""
    width, scaling = spec.rotary_width, spec.rope_scaling
    plain = 1.0 / spec.rope_theta ** (torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)
    if scaling is None or scaling.factor <= 1:
        return plain
    if isinstance(scaling, Llama3Spec):
        return _llama3(plain, scaling)
    keep = 1.0 - _ramp(scaling, width, spec.rope_theta, device)  # YaRN eq. 14-23
    return plain / scaling.factor * (1.0 - keep) + plain * keep


def _llama3(plain: Tensor, scaling: Llama3Spec) -> Tensor:
    """Pairs that turn fewer than low_freq_factor times in the original length are slowed, more than high are not."""
    turns = scaling.original_max_position_embeddings * plain / (2 * math.pi)
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = keep.clamp(0, 1)
    return plain / scaling.factor * (1.0 - keep) + plain * keep


def _ramp(yarn: YarnSpec, width: int, theta: float, device: torch.device | None) -> Tensor:
    """0 where a pair turns often enough to be left alone, 1 where it is fully interpolated, linear between."""

    def pair_that_turns(times: float) -> float:
        turns = yarn.original_max_position_embeddings / (times * 2 * math.pi)
        return width * math.log(turns) / (2 * math.log(theta))

    low = max(math.floor(pair_that_turns(yarn.beta_fast)), 0)
    high = min(math.ceil(pair_that_turns(yarn.beta_slow)), width - 1)
    pairs = torch.arange(width // 2, dtype=torch.float32, device=device)
    return ((pairs - low) / max(high - low, 0.001)).clamp(0, 1)


def rotation(spec: ModelSpec, positions_N: Tensor) -> Tensor:
    """cos + i sin of every token's angles, [N, 1, R/2] in complex fp32."""
    angles = torch.outer(positions_N.float(), inverse_frequencies(spec, positions_N.device))
    ratio = torch.full_like(angles, _attention_factor(spec.rope_scaling))
    return torch.polar(ratio, angles).unsqueeze(1)


def _attention_factor(scaling: YarnSpec | Llama3Spec | None) -> float:
    """mscale over mscale_all_dim: 1 for every published DeepSeek model, whose temperature sits in the softmax scale."""
    if not isinstance(scaling, YarnSpec) or scaling.factor <= 1:
        return 1.0
    log_factor = 0.1 * math.log(scaling.factor)
    return (log_factor * scaling.mscale + 1.0) / (log_factor * scaling.mscale_all_dim + 1.0)


def rotate(x_NHR: Tensor, rotation_N1P: Tensor) -> Tensor:
    """Turn every pair of neighbours in `x_NHR` by its token's angles; same shape and dtype out."""
    pairs = torch.view_as_complex(x_NHR.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation_N1P).flatten(-2).to(x_NHR.dtype)


def rotate_halves(x_NHR: Tensor, rotation_N1P: Tensor) -> Tensor:
    """The same for the pairs (first half, second half)."""
    first, second = x_NHR.float().chunk(2, dim=-1)
    turned = torch.complex(first, second) * rotation_N1P
    return torch.cat((turned.real, turned.imag), dim=-1).to(x_NHR.dtype)
