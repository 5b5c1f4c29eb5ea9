"""The supervised objective that pre-training, cold start, rejection sampling and distillation share.

Next-token cross-entropy, plus lambda times the multi-token prediction loss (DeepSeek-V3 report, eq. 24-25), plus
alpha times the balance loss (eq. 17; over the tokens of the batch instead of each sequence, as documents here are
short). Not covered: which documents (data.py), the update (learner.py).

Legend: N tokens, D hidden size, n tokens to predict.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raison.model.layout import Layout
from raison.model.moe import Routing, balance_loss
from raison.model.rope import rotation
from raison.model.transformer import Transformer
from raison.train.data import Packed
from raison.train.loss import token_logprobs


@dataclass(frozen=True, slots=True)
class SupervisedWeights:
    mtp: float = 0.0
    balance: float = 0.0


@dataclass(frozen=True, slots=True)
class SupervisedLoss:
    """`total` is back-propagated; the rest is watched. Losses in nats per token."""

    total: Tensor
    next_token: float
    mtp: float
    entropy: float
    routings: list[Routing]


def supervised_loss(
    model: Transformer, batch: Packed, weights: SupervisedWeights, dtype: torch.dtype
) -> SupervisedLoss:
    states_ND, routings = model.hidden(batch.ids_N, batch.layout.positions_N, batch.layout, dtype)
    normed_ND = model.norm(states_ND)
    logprobs, entropy = token_logprobs(normed_ND[batch.predicting_n], model.head, batch.targets_n)
    total = next_token = -logprobs.mean()
    mtp = states_ND.new_zeros((), dtype=torch.float32)
    if weights.mtp and len(model.mtp):
        mtp, more = mtp_loss(model, normed_ND, batch)
        total, routings = total + weights.mtp * mtp, routings + more
    if weights.balance and routings:
        total = total + weights.balance * torch.stack([balance_loss(r, model.spec) for r in routings]).sum()
    return SupervisedLoss(total, next_token.item(), mtp.item(), entropy.mean().item(), routings)


def mtp_loss(model: Transformer, normed_ND: Tensor, batch: Packed) -> tuple[Tensor, list[Routing]]:
    """Mean over the modules of the cross-entropy of token i+1+k from module k's state at i, and their routings.

    Modules are fed and chained with normed states, as the engines that draft with the published weights do.
    """
    rot = rotation(model.spec, batch.layout.positions_N)
    losses, routings = [], []
    for depth, module in enumerate(model.predictors(), start=1):
        ahead_ND = model.embed(batch.ids_N.roll(-depth), normed_ND.dtype)
        states_ND, routing = module(normed_ND, ahead_ND, rot, batch.layout)
        normed_ND = module.norm(states_ND)
        rows_n = predictable(batch.predicting_n, batch.layout, depth)
        logprobs, _ = token_logprobs(normed_ND[rows_n], model.head, batch.ids_N[rows_n + 1 + depth])
        losses.append(-logprobs.mean())
        routings += [routing] if routing is not None else []
    return torch.stack(losses).mean(), routings


def predictable(predicting_n: Tensor, layout: Layout, depth: int) -> Tensor:
    """Rows `depth` places before those whose next token carries loss, where both lie in one document."""
    rows_n = predicting_n - depth
    return rows_n[layout.positions_N[predicting_n] >= depth]
