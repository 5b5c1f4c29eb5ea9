"""The parts every block is made of: a linear map and a norm that keep master weights apart from the compute dtype.

Weights stay in the dtype they are stored in (fp32 while training) and are cast to the activations' dtype at each
product, so that one module trains in bf16 with fp32 masters, or runs in fp32 exactly. Not covered: biases, quantised
weights.

Legend: N tokens, D width in, F width out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Module):
    """y = x W^T with W [F, D], computed in the dtype of x."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))

    def forward(self, x_ND: Tensor) -> Tensor:
        return F.linear(x_ND, self.weight.to(x_ND.dtype))


class RMSNorm(nn.Module):
    """x / rms(x) * weight (Zhang & Sennrich 2019), statistics in fp32, the result in the dtype of x."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x_ND: Tensor) -> Tensor:
        return F.rms_norm(x_ND.float(), self.weight.shape, self.weight.float(), self.eps).to(x_ND.dtype)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer 2020): the dense layers' and the shared experts' feed-forward."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = Linear(width, inner)
        self.up_proj = Linear(width, inner)
        self.down_proj = Linear(inner, width)

    def forward(self, x_ND: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x_ND)) * self.up_proj(x_ND))
        return out
