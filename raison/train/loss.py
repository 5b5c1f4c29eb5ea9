"""Cross-entropy and token log-probabilities straight from hidden states, a slice of rows at a time.

The full [tokens, vocabulary] matrix is never kept: each slice's logits live in cache, and backward recomputes them. The
product is in the states' dtype and the softmax in fp32, as in `Transformer.logits`, so trainer and engine agree.

Legend: n rows (tokens to predict), D hidden size, Y vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from raison.model.autograd import call
from raison.model.moe import row_step

ROWS, LEAST_ROWS = 1024, 64
LOGITS = 1 << 22
"""Of a slice, at most: 16 MB in fp32."""


class _TokenLogprobs(torch.autograd.Function):
    """log softmax(h W^T / temperature)[target], and the entropy of each row (without gradient)."""

    @staticmethod
    def forward(
        ctx: Any, states_nD: Tensor, head_YD: Tensor, targets_n: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        logprobs_n = states_nD.new_empty(len(states_nD), dtype=torch.float32)
        entropy_n = torch.empty_like(logprobs_n)
        norms_n = torch.empty_like(logprobs_n)
        room = _Room(states_nD, head_YD)
        for rows in room.slices:
            logits = room.logits(states_nD[rows], head_YD).div_(temperature)
            top = logits.amax(-1, keepdim=True)
            weights = torch.sub(logits, top, out=room.second[: len(logits)]).exp_()
            total = weights.sum(-1)
            norms_n[rows] = top.squeeze(1) + total.log()
            logprobs_n[rows] = logits.gather(1, targets_n[rows, None]).squeeze(1) - norms_n[rows]
            entropy_n[rows] = norms_n[rows] - weights.mul_(logits).sum(-1) / total
        ctx.save_for_backward(states_nD, head_YD, targets_n, norms_n)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy_n)
        return logprobs_n, entropy_n

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        states_nD, head_YD, targets_n, norms_n = ctx.saved_tensors
        grad_n = grads[0] / ctx.temperature
        d_states = torch.empty_like(states_nD)
        d_head = torch.zeros_like(head_YD, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        room = _Room(states_nD, head_YD)
        for rows in room.slices:
            states = states_nD[rows]
            d_logits = room.logits(states, head_YD).div_(ctx.temperature).sub_(norms_n[rows, None]).exp_()
            d_logits.mul_(-grad_n[rows, None])
            d_logits.scatter_add_(1, targets_n[rows, None], grad_n[rows, None])
            d_logits = room.narrowed(d_logits)
            torch.mm(d_logits, head_YD, out=d_states[rows])
            if d_head is not None:
                d_head += d_logits.t() @ states
        return d_states, d_head, None, None


class _Room:
    """Memory for one slice's logits, used by one slice after the other: fresh pages cost more than the products."""

    def __init__(self, states_nD: Tensor, head_YD: Tensor) -> None:
        size = len(head_YD)
        rows = max(LEAST_ROWS, min(ROWS, LOGITS // size // LEAST_ROWS * LEAST_ROWS))
        count = len(states_nD)
        self.slices = [slice(i, min(i + rows, count)) for i in range(0, count, rows)]
        self.wide = states_nD.new_empty(min(rows, count), size, dtype=torch.float32)
        self.second = torch.empty_like(self.wide)
        self.narrow = (
            self.wide if states_nD.dtype == torch.float32 else torch.empty_like(self.wide, dtype=states_nD.dtype)
        )

    def logits(self, states: Tensor, head_YD: Tensor) -> Tensor:
        narrow = torch.mm(states, head_YD.t(), out=self.narrow[: len(states)])
        return self.wide[: len(states)].copy_(narrow)

    def narrowed(self, wide: Tensor) -> Tensor:
        return self.narrow[: len(wide)].copy_(wide)


def token_logprobs(
    states_nD: Tensor, head_YD: Tensor, targets_n: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of each row, [n] and [n] in fp32 (nats). `states` are normed
    already.
    """
    count = len(states_nD)
    over = -count % row_step(states_nD.dtype, count)
    states_nD, targets_n = F.pad(states_nD, (0, 0, 0, over)), F.pad(targets_n, (0, over))
    both = call(_TokenLogprobs, states_nD, head_YD.to(states_nD.dtype), targets_n, temperature)
    logprobs, entropy = both
    return logprobs[:count], entropy[:count]
