"""Weights of 8 and 4 bits in groups of 32, and activations of 8: what native code computes, written in PyTorch.

    q8   w = d q            q from -127 to 127, d = max |w| / 127
    q4   w = d u + m        u from 0 to 15, m = min w, d = (max w - m) / 15, both in fp16
    x    x = s q            as q8

These are GGUF's Q8_0 and Q4_1, with d of 8 bits kept in fp32. Values are rounded to the nearest, to even in the
middle. Not covered: packing (engine/kernels/matrix.hpp), products on integers.

Legend: F outputs, K inputs, N rows.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP = 32
Width = Literal["q8", "q4"]


def rounded(w_FK: Tensor, width: Width) -> Tensor:
    """The values that a matrix has after rounding, in fp32; [F, K]."""
    groups = _groups(w_FK.float())
    out = _bytes(groups) if width == "q8" else _nibbles(groups)
    values: Tensor = out.flatten(-2)[..., : w_FK.shape[-1]]
    return values


def rounded_rows(x_NK: Tensor) -> Tensor:
    """The values that a product reads of its activations, in fp32; [N, K]."""
    values: Tensor = _bytes(_groups(x_NK.float())).flatten(-2)[..., : x_NK.shape[-1]]
    return values


def _groups(x: Tensor) -> Tensor:
    padded: Tensor = F.pad(x, (0, -x.shape[-1] % GROUP))
    grouped: Tensor = padded.unflatten(-1, (-1, GROUP))
    return grouped


def _bytes(x: Tensor) -> Tensor:
    top = x.abs().amax(-1, keepdim=True)
    inverse = torch.where(top > 0, 127 / top, 0.0)
    return torch.round(x * inverse) * (top / 127)


def _nibbles(x: Tensor) -> Tensor:
    low = x.amin(-1, keepdim=True)
    d = ((x.amax(-1, keepdim=True) - low) / 15).half().float()
    m = low.half().float()
    u = torch.where(d > 0, ((x - m) / d).round().clamp(0, 15), 0.0)
    return d * u + m
