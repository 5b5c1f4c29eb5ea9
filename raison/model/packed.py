"""Weights that stay compressed, or on disk, and are expanded for one product at a time.

`Mapped` is a plain tensor, as a rule a view of a mapped file; other kinds of packing stand in weights/. A packed matrix
is never trained, but gradients pass through its product to what came before. Not covered: products on the packed form.

Legend: N tokens, D width in, F width out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PackedMatrix(Protocol):
    @property
    def shape(self) -> tuple[int, ...]:
        """Of the expanded matrix, in torch's order."""

    @property
    def nbytes(self) -> int:
        """Of the packed data."""

    def expand(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """A new tensor of `shape` that the caller may write to; it takes no more memory than itself and a small buffer.

        Values are computed in fp32 and rounded once where `dtype` is narrower.
        """

    def expand_into(self, out: Tensor) -> Tensor:
        """The same into a contiguous tensor of `shape`, and of any floating type; returns `out`.

        A buffer that is used again costs a fraction of `expand`, whose time mostly goes into fresh pages of memory.
        """

    def rows(self, start: int, stop: int) -> PackedMatrix:
        """[start, stop) along the first dimension, on the same data."""


def rows_at(matrix: PackedMatrix, ids_N: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows of `matrix` by number, [N, D]; each different one is expanded once."""
    distinct, of_token_N = torch.unique(ids_N, return_inverse=True)
    return torch.cat([matrix.rows(i, i + 1).expand(dtype) for i in distinct.tolist()])[of_token_N]


def packed_parts(model: nn.Module) -> dict[int, object]:
    """What is packed in `model`, as a memo under which copy.deepcopy shares it."""
    return {id(packed): packed for module in model.modules() if (packed := getattr(module, "packed", None))}


class Scratch:
    """Memory that one expansion after another is written to: fresh pages cost more than the expanding."""

    def __init__(self) -> None:
        self._room = torch.empty(0)

    def expand(self, matrix: PackedMatrix, dtype: torch.dtype) -> Tensor:
        """`matrix` expanded; good until the next call. While gradients are recorded it is new memory each time."""
        if torch.is_grad_enabled():
            return matrix.expand(dtype)
        size = math.prod(matrix.shape)
        if self._room.dtype != dtype or len(self._room) < size:
            with torch.inference_mode(False):  # else only inference mode could write to it again
                self._room = torch.empty(size, dtype=dtype)
        return matrix.expand_into(self._room[:size].view(matrix.shape))


class PackedProduct(torch.autograd.Function):
    """x W^T + b, W in scratch memory that the next product overwrites: the backward pass expands it once more."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, bias_F: Tensor | None, matrix: PackedMatrix, scratch: Scratch) -> Tensor:
        ctx.matrix, ctx.scratch = matrix, scratch
        return F.linear(x_ND, scratch.expand(matrix, x_ND.dtype), bias_F)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        of_x, of_bias = ctx.needs_input_grad[:2]
        d_x = torch.matmul(grads[0], ctx.scratch.expand(ctx.matrix, grads[0].dtype)) if of_x else None
        return d_x, grads[0].sum(0) if of_bias else None, None, None


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """A tensor as it is; `expand` casts it."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def nbytes(self) -> int:
        return self.tensor.nbytes

    def expand(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.tensor.to(dtype, copy=True)

    def expand_into(self, out: Tensor) -> Tensor:
        assert out.shape == self.shape
        return out.copy_(self.tensor)

    def rows(self, start: int, stop: int) -> Mapped:
        return Mapped(self.tensor[start:stop])
