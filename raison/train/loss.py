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

ROWS = 1024


class _TokenLogprobs(torch.autograd.Function):
    """log softmax(h W^T / temperature)[target], and the entropy of each row (without gradient)."""

    @staticmethod
    def forward(
        ctx: Any, states_nD: Tensor, head_YD: Tensor, targets_n: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        logprobs_n = states_nD.new_empty(len(states_nD), dtype=torch.float32)
        entropy_n = torch.empty_like(logprobs_n)
        norms_n = torch.empty_like(logprobs_n)
        for rows in _slices(len(states_nD)):
            logits = F.linear(states_nD[rows], head_YD).float().div_(temperature)
            norms_n[rows] = logits.logsumexp(-1)
            logprobs_n[rows] = logits.gather(1, targets_n[rows, None]).squeeze(1) - norms_n[rows]
            probs = (logits - norms_n[rows, None]).exp_()
            entropy_n[rows] = norms_n[rows] - (probs * logits).sum(-1)
        ctx.save_for_backward(states_nD, head_YD, targets_n, norms_n)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy_n)
        return logprobs_n, entropy_n

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        states_nD, head_YD, targets_n, norms_n = ctx.saved_tensors
        grad_n = grads[0] / ctx.temperature
        d_states, d_head = torch.empty_like(states_nD), torch.zeros_like(head_YD, dtype=torch.float32)
        for rows in _slices(len(states_nD)):
            states = states_nD[rows]
            d_logits = F.linear(states, head_YD).float().div_(ctx.temperature).sub_(norms_n[rows, None]).exp_()
            d_logits.mul_(-grad_n[rows, None])
            d_logits.scatter_add_(1, targets_n[rows, None], grad_n[rows, None])
            d_logits = d_logits.to(states.dtype)
            torch.mm(d_logits, head_YD, out=d_states[rows])
            d_head += d_logits.t() @ states
        return d_states, d_head, None, None


def _slices(rows: int) -> list[slice]:
    return [slice(i, min(i + ROWS, rows)) for i in range(0, rows, ROWS)]


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
