"""A low-rank addition to a frozen matrix (LoRA, Hu et al. 2021, arXiv 2106.09685, eq. 3): W + scale B A, or a stack.

The parts that own a matrix (layers.py, moe.py) add it to their products; lora.py attaches and folds. Not covered:
dropout, DoRA, ranks that differ within a stack.

Legend: X experts (or none), N tokens, D width in, R rank, F width out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LowRank(nn.Module):
    """A [X, R, D] uniform in +-1/sqrt(D) as PEFT starts it, B [X, F, R] at zero: at first nothing is added."""

    def __init__(self, shape: tuple[int, ...], rank: int, scale: float, generator: torch.Generator) -> None:
        """`shape` is that of the matrix, [F, D] or [X, F, D]."""
        super().__init__()
        *stack, out, width = shape
        start = torch.empty(*stack, rank, width)
        self.a = nn.Parameter(start.uniform_(-(width**-0.5), width**-0.5, generator=generator))
        self.b = nn.Parameter(torch.zeros(*stack, out, rank))
        self.scale = scale

    @property
    def rank(self) -> int:
        return self.a.shape[-2]

    def delta(self) -> Tensor:
        """scale B A, of the matrix's shape, in the factors' dtype."""
        return torch.matmul(self.b * self.scale, self.a)

    def forward(self, x_ND: Tensor) -> Tensor:
        """What a single matrix's product gains, [N, F] in the dtype of x."""
        low_NR = F.linear(x_ND, self.a.to(x_ND.dtype)) * self.scale
        return F.linear(low_NR, self.b.to(x_ND.dtype))
