"""The policy-gradient objectives of the GRPO family as small pure functions: ratio -> surrogate -> aggregate.

Covered, each with the source of its formula: * clipped surrogate of PPO and GRPO (Shao et al. 2024, arXiv 2402.03300,
equation 3), with clip-higher (DAPO, Yu et al. 2025,
  arXiv 2503.14476, equation 10) and the dual cap `delta` on the unclipped side (INTELLECT-2, arXiv 2505.07291);
* CISPO (MiniMax-M1, arXiv 2506.13585, equations 4-5) and SAPO (Gao et al. 2025, arXiv 2511.20347);
* importance ratio per token, or per sequence (GSPO, Zheng et al. 2025, arXiv 2507.18071, equation 7);
* four aggregations: "grpo" (mean over sequences of their token means), "bnpo" (mean over the micro-batch's tokens),
  "dr_grpo" (sum over a constant length; arXiv 2503.20783), "dapo" (sum over the tokens of the whole optimiser step);
* KL to a reference by k2 or k3 (Schulman 2020, "Approximating KL divergence"), or k3 times the importance ratio
  (DeepSeek-V3.2,
  arXiv 2512.02556; what TRL 1.16 takes when its beta is set), off by default;
* truncated or masked importance weights for a sampler whose log-probabilities differ from the trainer's.

Value and gradient equal TRL 1.16.0's GRPOTrainer with the same settings. Differs from it: no padding and no mask (the
caller lays only the tokens that count end to end), and CISPO must be given its cap, which TRL lets fall back to 0.2.
Differs from the papers: CISPO has no lower clamp and caps the ratio at `clip_high` itself, as TRL does. Not covered:
advantages (credit.py), the forward pass, entropy bonuses, sums over ranks.

Legend: N tokens of all sequences end to end, B sequences in the micro-batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from torch import Tensor

from raison.errors import UserError

Aggregation = Literal["grpo", "bnpo", "dr_grpo", "dapo"]
Divergence = Literal["k2", "k3", "k3_corrected"]
Correction = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]


@dataclass(frozen=True, slots=True)
class LossSettings:
    """Which objective. Raises UserError when the parts do not go together."""

    aggregation: Aggregation = "dapo"
    level: Literal["token", "sequence"] = "token"
    policy: Literal["clip", "cispo", "sapo"] = "clip"
    clip_low: float = 0.2
    clip_high: float | None = None
    """None takes clip_low. For CISPO this is the cap on the ratio itself, such as 5.0, and has no default."""
    delta: float | None = None
    """Upper cap of the unclipped ratio, above 1 + clip_high: bounds the step on tokens with negative advantage."""
    kl: Divergence | Literal["none"] = "none"
    kl_weight: float = 0.0
    max_completion_length: int | None = None
    """Tokens; the constant that "dr_grpo" divides by."""
    num_items: float | None = None
    """Tokens of the whole optimiser step, for "dapo"; None takes this micro-batch's own count."""
    accumulation: float = 1
    """Micro-batches per optimiser step; where they differ in size, the step's sequences over this one's. "dapo" with
    num_items needs no division and ignores it."""
    sapo_positive: float = 1.0
    sapo_negative: float = 1.05

    def __post_init__(self) -> None:
        if self.policy == "cispo" and self.clip_high is None:
            raise UserError("CISPO caps the ratio at clip_high itself; give one, such as 5.0")
        if self.aggregation == "dr_grpo" and self.max_completion_length is None:
            raise UserError("the dr_grpo aggregation divides by max_completion_length; give it")

    @property
    def upper(self) -> float:
        return self.clip_low if self.clip_high is None else self.clip_high


@dataclass(frozen=True, slots=True)
class PolicyBatch:
    """One micro-batch, only the completion tokens that count, sequences end to end. Log-probabilities are natural
    logs.
    """

    logp_N: Tensor
    """Under the policy being trained; carries the gradient."""
    old_N: Tensor
    """Under the policy that is the base of the ratio; `logp_N.detach()` on-policy. No gradient."""
    segment_N: Tensor
    """int64, the sequence (0 .. B-1) each token belongs to."""
    adv_B: Tensor
    """One advantage per sequence; B counts also the sequences that have no token here."""
    ref_N: Tensor | None = None
    sampler_N: Tensor | None = None
    """What the engine recorded while sampling; only measured here, see `correction_weights` to use it."""
    is_weights_N: Tensor | None = None

    def __post_init__(self) -> None:
        per_token = (self.old_N, self.segment_N, self.ref_N, self.sampler_N, self.is_weights_N)
        assert all(x is None or x.shape == self.logp_N.shape for x in per_token), "per-token tensors differ in length"
        assert self.logp_N.ndim == 1 and self.adv_B.ndim == 1

    @property
    def sequences(self) -> int:
        return self.adv_B.shape[0]


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """The loss, to be back-propagated as it is, and what to watch. Metrics are means over the micro-batch's tokens."""

    loss: Tensor
    tokens: int
    clip_share: float
    """Share of tokens whose gradient the clip removed (CISPO: whose weight it capped)."""
    approx_kl: float
    """k3 estimate of KL(old || policy) in nats per token."""
    mean_ratio: float
    """Exactly 1.0 on-policy."""
    sampler_gap: float
    """max |old - sampler| in nats; 0 where no sampler log-probabilities were given."""


def policy_loss(batch: PolicyBatch, settings: LossSettings) -> PolicyLoss:
    """The objective of one micro-batch. Raises UserError when a KL is asked for without reference log-probabilities."""
    ratio_N = importance_ratio(batch, settings.level)
    adv_N = batch.adv_B[batch.segment_N]
    per_token_N = surrogate(ratio_N, adv_N, batch.logp_N, settings)
    if batch.is_weights_N is not None:
        per_token_N = per_token_N * batch.is_weights_N
    if settings.kl != "none" and settings.kl_weight:
        per_token_N = per_token_N + settings.kl_weight * kl_penalty(batch, settings.kl, ratio_N)
    loss = aggregate(per_token_N, batch.segment_N, batch.sequences, settings)
    return _measured(loss, batch, ratio_N.detach(), adv_N, settings)


def segment_sum(x_N: Tensor, segment_N: Tensor, sequences: int) -> Tensor:
    """[B]: the sum of x over the tokens of each sequence."""
    return x_N.new_zeros(sequences).index_add(0, segment_N, x_N)


def segment_length(segment_N: Tensor, sequences: int) -> Tensor:
    """[B] int64: tokens of each sequence, at least 1 so that it can divide."""
    return torch.bincount(segment_N, minlength=sequences).clamp_min(1)


def importance_ratio(batch: PolicyBatch, level: Literal["token", "sequence"]) -> Tensor:
    """[N] pi / pi_old: per token, or the length-normalised ratio of the sequence (GSPO equation 7) at each of its
    tokens.
    """
    log_ratio_N = batch.logp_N - batch.old_N
    if level == "token":
        return log_ratio_N.exp()
    sums_B = segment_sum(log_ratio_N, batch.segment_N, batch.sequences)
    return (sums_B / segment_length(batch.segment_N, batch.sequences)).exp()[batch.segment_N]


def surrogate(ratio_N: Tensor, adv_N: Tensor, logp_N: Tensor, settings: LossSettings) -> Tensor:
    """[N] the loss of each token before aggregation."""
    match settings.policy:
        case "clip":
            return clipped_surrogate(ratio_N, adv_N, settings.clip_low, settings.upper, settings.delta)
        case "cispo":
            return -ratio_N.detach().clamp(max=settings.upper) * adv_N * logp_N
        case "sapo":
            return sapo_surrogate(ratio_N, adv_N, settings.sapo_positive, settings.sapo_negative)
        case _:
            assert_never(settings.policy)


def clipped_surrogate(ratio_N: Tensor, adv_N: Tensor, low: float, high: float, delta: float | None) -> Tensor:
    """-min(min(r, delta) A, clip(r, 1 - low, 1 + high) A), [N]."""
    free_N = ratio_N if delta is None else ratio_N.clamp(max=delta)
    return -torch.minimum(free_N * adv_N, ratio_N.clamp(1 - low, 1 + high) * adv_N)


def sapo_surrogate(ratio_N: Tensor, adv_N: Tensor, positive: float, negative: float) -> Tensor:
    """-(4 / t) sigmoid(t (r - 1)) A with t by the sign of A: a smooth gate in place of the clip, [N]."""
    temperature_N = torch.full_like(adv_N, negative).masked_fill(adv_N > 0, positive)
    return -4 / temperature_N * torch.sigmoid(temperature_N * (ratio_N - 1)) * adv_N


def kl_penalty(batch: PolicyBatch, kind: Divergence, ratio_N: Tensor) -> Tensor:
    """[N] estimate of KL(policy || reference) in nats.

    k3 = exp(d) - d - 1 with d = ref - logp is unbiased in value on-policy, but its gradient is not that of the KL; k2
    = d^2 / 2 is biased in value and has the right gradient on-policy; "k3_corrected" = ratio * k3 has both right,
    off-policy too (per token). Raises UserError without reference log-probabilities.
    """
    if batch.ref_N is None:
        raise UserError('a KL penalty needs the reference log-probabilities; give a reference model or set kl = "none"')
    d_N = batch.ref_N - batch.logp_N
    if kind == "k2":
        return d_N.square() / 2
    k3_N = d_N.exp() - d_N - 1
    return k3_N if kind == "k3" else ratio_N * k3_N


def aggregate(per_token_N: Tensor, segment_N: Tensor, sequences: int, settings: LossSettings) -> Tensor:
    """The scalar loss; a micro-batch without tokens gives 0. See the module's docstring for the four kinds."""
    match settings.aggregation:
        case "grpo":
            weighted_N = per_token_N / segment_length(segment_N, sequences)[segment_N]
            return weighted_N.sum() / sequences / settings.accumulation
        case "bnpo":
            return per_token_N.sum() / max(len(per_token_N), 1) / settings.accumulation
        case "dr_grpo":
            assert settings.max_completion_length is not None
            return per_token_N.sum() / (sequences * settings.max_completion_length) / settings.accumulation
        case "dapo":
            items = len(per_token_N) if settings.num_items is None else settings.num_items
            return per_token_N.sum() / max(items, 1.0)
        case _:
            assert_never(settings.aggregation)


def correction_weights(
    old_N: Tensor, sampler_N: Tensor, segment_N: Tensor, sequences: int, mode: Correction = "sequence_mask",
    low: float | None = None, high: float | None = 3.0,
) -> Tensor:  # fmt: skip
    """[N] weights pi_old / pi_sampler for rollouts that another engine sampled; no gradient passes.

    "sequence_*" takes the whole sequence's ratio (the sum of differences, not the mean), "*_truncate" clamps it into
    [low, high] (TIS, Yao et al. 2025), "*_mask" sets it to 0 outside (IcePop). None leaves a side open.
    """
    difference_N = (old_N - sampler_N).detach()
    if mode.startswith("sequence"):
        difference_N = segment_sum(difference_N, segment_N, sequences)[segment_N]
    weight_N = difference_N.exp()
    low, high = -torch.inf if low is None else low, torch.inf if high is None else high
    if mode.endswith("truncate"):
        return weight_N.clamp(low, high)
    return weight_N.masked_fill((weight_N < low) | (weight_N > high), 0.0)


@torch.no_grad()
def _measured(loss: Tensor, batch: PolicyBatch, ratio_N: Tensor, adv_N: Tensor, settings: LossSettings) -> PolicyLoss:
    tokens = len(ratio_N)
    if tokens == 0:
        return PolicyLoss(loss, 0, clip_share=0.0, approx_kl=0.0, mean_ratio=1.0, sampler_gap=0.0)
    log_ratio_N = batch.logp_N - batch.old_N
    gap = 0.0 if batch.sampler_N is None else (batch.old_N - batch.sampler_N).abs().max().item()
    return PolicyLoss(
        loss,
        tokens,
        clip_share=_clipped(ratio_N, adv_N, settings).float().mean().item(),
        approx_kl=(log_ratio_N.exp() - 1 - log_ratio_N).mean().item(),
        mean_ratio=ratio_N.mean().item(),
        sampler_gap=gap,
    )


def _clipped(ratio_N: Tensor, adv_N: Tensor, settings: LossSettings) -> Tensor:
    """[N] bool: where the clip is the active side."""
    match settings.policy:
        case "clip":
            below_N = (ratio_N < 1 - settings.clip_low) & (adv_N < 0)
            return below_N | ((ratio_N > 1 + settings.upper) & (adv_N > 0))
        case "cispo":
            return ratio_N > settings.upper
        case "sapo":
            return torch.zeros_like(ratio_N, dtype=torch.bool)
        case _:
            assert_never(settings.policy)
