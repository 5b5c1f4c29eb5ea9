"""Calling a hand-written autograd function: recorded while gradients are wanted, a plain function while they are not.

PyTorch's own `apply` costs some 10 microseconds, which decoding pays dozens of times a token and has no use for.
"""

from __future__ import annotations

from typing import Any

import torch


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
