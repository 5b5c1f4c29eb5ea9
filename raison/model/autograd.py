"""Calling a hand-written autograd function: recorded while gradients are wanted, a plain function while they are not.

PyTorch's own `apply` costs some 10 microseconds, which decoding pays dozens of times a token and has no use for. Beside
it stand the two moves of rows that several rooms share. Not covered: functions of one module alone, which stand there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Unrecorded:
    """Stands in for the context: takes everything, keeps nothing."""

    def __setattr__(self, name: str, value: Any) -> None:
        pass

    def save_for_backward(self, *tensors: Any) -> None:
        pass

    def mark_non_differentiable(self, *tensors: Any) -> None:
        pass


_UNRECORDED = _Unrecorded()


def call(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """`function.apply(*arguments)`, or only its forward where no gradient can be asked for."""
    if torch.is_grad_enabled():
        return function.apply(*arguments)
    return function.forward(_UNRECORDED, *arguments)


class SpreadRows(torch.autograd.Function):
    """Rows into their places among zeros; backward picks them out again (a plain index would add, slowly)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(places)
        return rows.new_zeros(count, *rows.shape[1:]).index_copy_(0, places, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return grads[0].index_select(0, places), None, None


class PickRows(torch.autograd.Function):
    """The opposite of SpreadRows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.count = len(rows)
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        grad = grads[0]
        return grad.new_zeros(ctx.count, *grad.shape[1:]).index_copy_(0, places, grad), None
