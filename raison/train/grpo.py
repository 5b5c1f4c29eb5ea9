"""Group relative policy optimisation (DeepSeekMath, arXiv 2402.03300, section 4): one step from weights to weights.

    draw a round -> credit -> minibatches -> (microbatch: forward, policy loss, backward)* -> update -> hand weights
    over

With one minibatch the step is exactly on-policy: the old log-probabilities are the new ones, detached, and every
ratio is 1. With more, the old ones come from one pass of the trainer before the first update. A `</think>` that the
budget wrote was not chosen and carries no loss. Dead groups are left out of the loss and of its token count.

Legend: N tokens of a microbatch, n completion tokens that count, B samples.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor

from raison.config import GrpoStage
from raison.model.moe import Routing
from raison.model.packed import packed_parts
from raison.model.transformer import Transformer
from raison.records import Rollout
from raison.text.chat import Example
from raison.think.budget import completion_limit
from raison.train.credit import advantages
from raison.train.data import Packed, pack
from raison.train.learner import Learner
from raison.train.loop import StepOutcome
from raison.train.loss import token_logprobs
from raison.train.policy_loss import Aggregation, LossSettings, PolicyBatch, PolicyLoss, correction_weights, policy_loss
from raison.train.rollout import RolloutLog, Round, Sampler


@dataclass(frozen=True, slots=True)
class Credited:
    """A sample with its advantage and the mask of the completion tokens that count."""

    rollout: Rollout
    advantage: float
    counts: tuple[bool, ...]

    @property
    def tokens(self) -> int:
        return len(self.rollout.prompt_ids) + len(self.rollout.completion_ids)


def credit(drawn: Round, stage: GrpoStage) -> list[Credited]:
    """Advantages over the live groups; truncated samples lose their tokens when the stage masks them."""
    live = [group for group in drawn.groups if not group.dead]
    if not live:
        return []
    rewards_PG = torch.tensor([[r.reward for r in g.rollouts] for g in live], dtype=torch.float64)
    credits_PG = advantages(rewards_PG, stage.scale)
    return [
        Credited(rollout, float(credits_PG[i, j]), _counting(rollout, stage))
        for i, group in enumerate(live)
        for j, rollout in enumerate(group.rollouts)
    ]


def _counting(rollout: Rollout, stage: GrpoStage) -> tuple[bool, ...]:
    """A forced token has a log-probability of exactly 0, which no sampled token has."""
    if stage.mask_truncated and rollout.truncated:
        return (False,) * len(rollout.logprobs)
    return tuple(logprob != 0.0 for logprob in rollout.logprobs)


def loss_settings(stage: GrpoStage, thinks: bool = True) -> LossSettings:
    return LossSettings(
        aggregation=stage.loss, level=stage.level, policy=stage.policy,
        clip_low=stage.clip_low, clip_high=stage.clip_high, kl=stage.kl, kl_weight=stage.kl_weight,
        max_completion_length=completion_limit(stage.budget, thinks),
    )  # fmt: skip


def minibatches(samples: Sequence[Credited], count: int, key: str) -> list[list[Credited]]:
    """`count` random parts of nearly equal size, the same for the same key; the one part is all, in order."""
    if count == 1:
        return [list(samples)]
    shuffled = list(samples)
    random.Random(f"minibatches/{key}").shuffle(shuffled)
    return [part for i in range(count) if (part := shuffled[i::count])]


def describe(drawn: Round, thinks: bool = True) -> dict[str, float]:
    """What to watch of a round: over all samples that were drawn, dead groups included; the length is of thinking."""
    rollouts = drawn.rollouts
    return {
        "reward": fmean(r.reward for r in rollouts),
        "solved": fmean(r.verdict.correct for r in rollouts),
        "dead": fmean(group.dead for group in drawn.groups),
        "length": fmean(r.thinking_tokens if thinks else len(r.completion_ids) for r in rollouts),
        "truncated": fmean(r.truncated for r in rollouts),
    }


@dataclass(frozen=True, slots=True)
class Watched:
    """One microbatch's loss and what goes with it."""

    out: PolicyLoss
    entropy: float
    grad_norm: float = 0.0


def average(watched: Sequence[Watched]) -> dict[str, float]:
    """Means over a step's microbatches, weighted by tokens; the largest gap between trainer and sampler."""
    tokens = sum(w.out.tokens for w in watched) or 1

    def mean(figure: Callable[[Watched], float]) -> float:
        return sum(figure(w) * w.out.tokens for w in watched) / tokens

    return {
        "entropy": mean(lambda w: w.entropy),
        "clip_share": mean(lambda w: w.out.clip_share),
        "approx_kl": mean(lambda w: w.out.approx_kl),
        "ratio": mean(lambda w: w.out.mean_ratio),
        "grad_norm": mean(lambda w: w.grad_norm),
        "sampler_gap": max((w.out.sampler_gap for w in watched), default=0.0),
    }


@dataclass(frozen=True, slots=True)
class Micro:
    """One forward and backward pass: packed documents and, in the same order, their samples."""

    packed: Packed
    segment_n: Tensor
    adv_B: Tensor
    sampler_n: Tensor

    @classmethod
    def of(cls, samples: Sequence[Credited]) -> Micro:
        ordered = sorted(samples, key=lambda s: s.tokens)  # the order in which pack() lays them out
        rows = [s.rollout for s in ordered]
        masks = [[0] * len(r.prompt_ids) + [int(c) for c in s.counts] for s, r in zip(ordered, rows, strict=True)]
        packed = pack(Example([*r.prompt_ids, *r.completion_ids], m) for r, m in zip(rows, masks, strict=True))
        counted = torch.tensor([sum(mask) for mask in masks])
        sampler = [x for s in ordered for x, c in zip(s.rollout.logprobs, s.counts, strict=True) if c]
        return cls(
            packed,
            torch.arange(len(ordered)).repeat_interleave(counted),
            torch.tensor([s.advantage for s in ordered], dtype=torch.float32),
            torch.tensor(sampler),
        )

    @property
    def counted(self) -> int:
        return len(self.segment_n)


def microbatches(samples: Sequence[Credited], tokens: int) -> Iterator[list[Credited]]:
    """Runs of samples of at most `tokens` tokens (at least one sample), alike in length."""
    run: list[Credited] = []
    for sample in sorted(samples, key=lambda s: s.tokens):
        if run and sum(s.tokens for s in run) + sample.tokens > tokens:
            yield run
            run = []
        run.append(sample)
    if run:
        yield run


@dataclass(frozen=True, slots=True)
class Share:
    """How one microbatch's loss is scaled so that a minibatch's gradient does not depend on how it was cut."""

    items: float
    accumulation: float


def share_of(micro: Micro, minibatch: Sequence[Micro], aggregation: Aggregation) -> Share:
    """All of the minibatch's tokens, and its sequences over the microbatch's own; bnpo means each microbatch alike."""
    items = float(sum(m.counted for m in minibatch))
    if aggregation == "bnpo":
        return Share(items, len(minibatch))
    return Share(items, sum(len(m.adv_B) for m in minibatch) / len(micro.adv_B))


@dataclass(frozen=True, slots=True)
class Scored:
    """A microbatch's counted tokens under some weights, as the engine scores them: whole vocabulary, at the
    temperature.
    """

    logp_n: Tensor
    entropy_n: Tensor
    routings: list[Routing]


def score(model: Transformer, batch: Packed, temperature: float, dtype: torch.dtype) -> Scored:
    states_ND, routings = model.hidden(batch.ids_N, batch.layout.positions_N, batch.layout, dtype)
    logp, entropy = token_logprobs(model.norm(states_ND[batch.predicting_n]), model.head, batch.targets_n, temperature)
    return Scored(logp, entropy, routings)


def frozen_copy(model: Transformer) -> Transformer:
    """A copy that stays as the model is now; what does not train is shared, packed weights included."""
    shared: dict[int, object] = {id(p): p for p in model.parameters() if not p.requires_grad}
    return copy.deepcopy(model, shared | packed_parts(model)).requires_grad_(False)


class GrpoStep:
    """Called with a step's number, moves the learner's weights once per minibatch and says what happened."""

    def __init__(self, learner: Learner, sampler: Sampler, stage: GrpoStage, log: RolloutLog) -> None:
        self.learner, self.sampler, self.stage, self.log = learner, sampler, stage, log
        self._settings = loss_settings(stage, sampler.thinks)
        self._reference = frozen_copy(learner.model) if stage.kl != "none" else None

    def __call__(self, step: int) -> StepOutcome:
        begun = time.perf_counter()
        drawn = self.sampler.draw(step)
        sampling_seconds = time.perf_counter() - begun
        self.log.write(drawn.rollouts)
        samples = credit(drawn, self.stage)
        figures = describe(drawn, self.sampler.thinks)
        if samples:
            figures |= self._updates(step, samples)
            self.sampler.engine.update_weights()
        sampled = sum(len(r.completion_ids) for r in drawn.rollouts)
        figures["rollout_seconds"] = sampling_seconds
        return StepOutcome(sum(s.tokens for s in samples), sampled, figures)

    def _updates(self, step: int, samples: list[Credited]) -> dict[str, float]:
        parts = [
            [Micro.of(run) for run in microbatches(part, self.stage.batch_tokens)]
            for part in minibatches(samples, self.stage.minibatches, f"{self.sampler.seed}/{step}")
        ]
        on_policy = len(parts) == 1
        bases = [[None if on_policy else self._frozen(self.learner.model, m) for m in part] for part in parts]
        watched = []
        for i, (part, olds) in enumerate(zip(parts, bases, strict=True)):
            shares = [share_of(micro, part, self._settings.aggregation) for micro in part]
            losses = [self._backward(*one) for one in zip(part, olds, shares, strict=True) if one[0].counted]
            norm = self.learner.update(step * self.stage.minibatches + i)
            watched += [replace(one, grad_norm=norm) for one in losses]
        return average(watched)

    def _frozen(self, model: Transformer, micro: Micro) -> Tensor:
        with torch.no_grad():
            return score(model, micro.packed, self.stage.temperature, self.learner.dtype).logp_n

    def _backward(self, micro: Micro, old_n: Tensor | None, share: Share) -> Watched:
        scored = score(self.learner.model, micro.packed, self.stage.temperature, self.learner.dtype)
        old_n = scored.logp_n.detach() if old_n is None else old_n
        batch = PolicyBatch(
            logp_N=scored.logp_n,
            old_N=old_n,
            segment_N=micro.segment_n,
            adv_B=micro.adv_B,
            ref_N=None if self._reference is None else self._frozen(self._reference, micro),
            sampler_N=micro.sampler_n,
            is_weights_N=self._correction(micro, old_n),
        )
        settings = replace(self._settings, num_items=share.items, accumulation=share.accumulation)
        out = policy_loss(batch, settings)
        self.learner.backward(out.loss, scored.routings)
        return Watched(out, scored.entropy_n.mean().item())

    def _correction(self, micro: Micro, old_n: Tensor) -> Tensor | None:
        """How much each token counts where the sampler was not quite the policy."""
        mode, cap = self.stage.correction, self.stage.correction_cap
        if mode == "none":
            return None
        return correction_weights(old_n, micro.sampler_n, micro.segment_n, len(micro.adv_B), mode, high=cap)
