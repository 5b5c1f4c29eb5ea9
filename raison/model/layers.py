"""The parts every block is made of: a linear map and a norm that keep master weights apart from the compute dtype.

Weights stay in the dtype they are stored in (fp32 while training) and are cast to the activations' dtype at each
product, so that one module trains in bf16 with fp32 masters, or runs in fp32 exactly. A linear map may have a low-rank
adapter (lora.py). Not covered: products on packed weights without expanding them.

Legend: N tokens, D width in, F width out.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raison.model.autograd import call
from raison.model.low_rank import LowRank
from raison.model.packed import PackedMatrix, PackedProduct, Scratch
from raison.model.rounding import rounded_rows


class Linear(nn.Module):
    """y = x W^T + b with W [F, D], computed in the dtype of x. W is a parameter, or packed and expanded each time.

    An adapter adds to W, and takes the gradients.
    """

    lora: LowRank | None

    def __init__(self, in_features: int, out_features: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.lora = None
        self.packed: PackedMatrix | None = None
        self.rounds = False
        """Whether activations are rounded to 8 bits in groups of 32, as native code does against such weights."""
        self._scratch: Scratch | None = None

    def pack(self, matrix: PackedMatrix, scratch: Scratch) -> None:
        """Use `matrix` for the weight, which then is no parameter and cannot be trained."""
        assert matrix.shape == self.weight.shape
        self.packed, self._scratch = matrix, scratch
        self.weight = nn.Parameter(torch.empty(0), requires_grad=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """[F, D], packed or not."""
        return tuple(self.weight.shape) if self.packed is None else self.packed.shape

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """W in `dtype`, the adapter included."""
        base = self.weight.to(dtype) if self.packed is None else self.packed.expand(dtype)
        return base if self.lora is None else base + self.lora.delta().to(dtype)

    @torch.no_grad()
    def fold(self) -> None:
        """Make the adapter, if there is one, part of the weight, which is then packed no more."""
        if self.lora is None and self.packed is None:
            return
        merged = self.matrix(self.weight.dtype)
        if self.packed is None:
            self.weight.copy_(merged)
        else:
            self.weight, self.packed, self._scratch = nn.Parameter(merged), None, None
        self.lora = None

    def forward(self, x_ND: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x_ND.dtype)
        x_ND = rounded_rows(x_ND) if self.rounds else x_ND
        if self.packed is None:
            y_NF = F.linear(x_ND, self.weight.to(x_ND.dtype), bias)
        else:
            y_NF = call(PackedProduct, x_ND, bias, self.packed, self._scratch)
        return y_NF if self.lora is None else y_NF + self.lora(x_ND)


def normalise(x_ND: Tensor, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x / rms(x) * weight in the dtype of x, and 1 / rms(x) as [N, 1] in fp32 or wider."""
    wide = torch.promote_types(x_ND.dtype, torch.float32)
    length_N1 = torch.linalg.vector_norm(x_ND, dim=-1, keepdim=True, dtype=wide)
    inverse_N1 = length_N1.square_().div_(x_ND.shape[-1]).add_(eps).rsqrt_()
    return (x_ND * inverse_N1 * weight_D.to(wide)).to(x_ND.dtype), inverse_N1


class _Normalise(torch.autograd.Function):
    """`normalise` with its gradient by hand: half the passes over memory that the composed operators take."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        out_ND, inverse_N1 = normalise(x_ND, weight_D, eps)
        ctx.save_for_backward(x_ND, weight_D, inverse_N1)
        return out_ND

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x_ND, weight_D, inverse_N1 = ctx.saved_tensors
        unit_ND = x_ND * inverse_N1
        grad_ND = grads[0] * weight_D.to(inverse_N1.dtype)
        along_N1 = (grad_ND * unit_ND).mean(-1, keepdim=True)
        d_x = (grad_ND - unit_ND * along_N1).mul_(inverse_N1).to(x_ND.dtype)
        d_weight = (grads[0] * unit_ND).flatten(0, -2).sum(0).to(weight_D.dtype)
        return d_x, d_weight, None


class RMSNorm(nn.Module):
    """x / rms(x) * weight (Zhang & Sennrich 2019), statistics in fp32, the result in the dtype of x."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x_ND: Tensor) -> Tensor:
        out: Tensor = call(_Normalise, x_ND, self.weight, self.eps)
        return out


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
