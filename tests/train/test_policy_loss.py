"""The objective against an independent oracle (value and gradient), finite differences and REINFORCE."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from raison.errors import UserError
from raison.train.credit import advantages
from raison.train.policy_loss import LossSettings, PolicyBatch, correction_weights, policy_loss

GOLDEN_FILE = Path(__file__).resolve().parents[3] / "shared" / "oracles" / "grpo_golden.json"
GOLDEN: dict[str, Any] = json.loads(GOLDEN_FILE.read_text()) if GOLDEN_FILE.exists() else {"cases": {}}

LENGTHS = [6, 3, 1, 5, 4, 6, 2, 6]
ORACLE_ADVANTAGE = 0.8658754297607016


def settings_of(kwargs: dict[str, Any]) -> LossSettings:
    """The oracle's names in ours. It lets CISPO's cap fall back to the lower clip; ours wants it said."""
    kind = kwargs["loss_type"]
    return LossSettings(
        aggregation={"cispo": "dapo", "sapo": "grpo"}.get(kind, kind),
        policy=kind if kind in ("cispo", "sapo") else "clip",
        level=kwargs.get("level", "token"),
        clip_low=kwargs.get("eps_low", 0.2),
        clip_high=kwargs.get("eps_high", 0.2 if kind == "cispo" else None),
        delta=kwargs.get("delta"),
        kl="k3" if kwargs.get("beta") else "none",
        kl_weight=kwargs.get("beta", 0.0),
        max_completion_length=kwargs.get("max_completion_length"),
        num_items=kwargs.get("num_items"),
    )


def flat(rows: Any, mask: Tensor) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).broadcast_to(mask.shape)[mask]


@pytest.mark.skipif(not GOLDEN["cases"], reason=f"golden values are not beside the repository ({GOLDEN_FILE})")
@pytest.mark.parametrize("name", sorted(GOLDEN["cases"]) or ["absent"])
def test_equals_the_oracle_in_value_and_gradient(name: str) -> None:
    case, mask = GOLDEN["cases"][name], torch.tensor(GOLDEN["mask"]) > 0
    kwargs = case["kwargs"]
    logp = flat(GOLDEN["logp"], mask).requires_grad_()
    batch = PolicyBatch(
        logp,
        flat(GOLDEN["old"], mask),
        torch.arange(len(mask)).repeat_interleave(mask.sum(1)),
        torch.tensor(GOLDEN["advantages"], dtype=torch.float64),
        ref_N=flat(GOLDEN["ref"], mask),
        sampler_N=flat(GOLDEN["sampler"], mask),
        is_weights_N=flat(kwargs["is_w"], mask) if "is_w" in kwargs else None,
    )
    result = policy_loss(batch, settings_of(kwargs))
    result.loss.backward()  # type: ignore[no-untyped-call]
    assert abs(result.loss.item() - case["loss"]) < 1e-8
    torch.testing.assert_close(logp.grad, flat(case["grad"], mask), rtol=0, atol=1e-8)


@pytest.mark.skipif(not GOLDEN["cases"], reason=f"golden values are not beside the repository ({GOLDEN_FILE})")
@pytest.mark.parametrize("mode", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"])
def test_correction_weights_equal_the_oracle(mode: Any) -> None:
    mask = torch.tensor(GOLDEN["mask"]) > 0
    segment = torch.arange(len(mask)).repeat_interleave(mask.sum(1))
    weights = correction_weights(
        flat(GOLDEN["old"], mask), flat(GOLDEN["sampler"], mask), segment, len(mask), mode, high=1.1
    )
    expected = flat(GOLDEN["cases"][f"dapo_is_{mode}"]["kwargs"]["is_w"], mask)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-12)


@pytest.mark.skipif(not GOLDEN["cases"], reason=f"golden values are not beside the repository ({GOLDEN_FILE})")
def test_advantages_equal_the_oracle() -> None:
    rewards = torch.tensor(GOLDEN["rewards"], dtype=torch.float64).reshape(-1, GOLDEN["num_generations"])
    expected = torch.tensor(GOLDEN["advantages"], dtype=torch.float64)
    assert (advantages(rewards).flatten() - expected).abs().max() < 1e-12


# What the same oracle gives for `small_batch`, kept here so that the values are held wherever the tests run.
SMALL = {
    "grpo": -0.1419965234, "bnpo": -0.2953294549, "dr_grpo": -0.0738323637, "dapo": -0.1771976729,
    "gspo": -0.1340917092, "cispo": 0.1766549109, "sapo": -0.4172109494,
}  # fmt: skip


def small_batch(**more: Any) -> PolicyBatch:
    old = torch.tensor([-0.6, -0.7, -1.3, -0.4, -0.2, -0.9], dtype=torch.float64)
    logp = old + torch.tensor([-0.5, 0.1, 0.3, -0.3, 0.0, 0.4], dtype=torch.float64)
    adv = torch.tensor([1.0, -0.5, 0.25], dtype=torch.float64)
    return PolicyBatch(logp.requires_grad_(), old, torch.tensor([0, 0, 1, 2, 2, 2]), adv, **more)


def settings_named(name: str) -> LossSettings:
    return {
        "grpo": LossSettings("grpo"),
        "bnpo": LossSettings("bnpo"),
        "dr_grpo": LossSettings("dr_grpo", max_completion_length=8),
        "dapo": LossSettings("dapo", num_items=10),
        "gspo": LossSettings("grpo", level="sequence"),
        "cispo": LossSettings("dapo", policy="cispo", clip_high=1.2),
        "sapo": LossSettings("grpo", policy="sapo"),
    }[name]


@pytest.mark.parametrize("name", SMALL)
def test_kept_values(name: str) -> None:
    assert policy_loss(small_batch(), settings_named(name)).loss.item() == pytest.approx(SMALL[name], abs=1e-8)


@pytest.mark.parametrize("kl", ["none", "k2", "k3", "k3_corrected"])
@pytest.mark.parametrize(
    "name", [n for n in SMALL if n != "cispo"]
)  # CISPO stops a gradient, which differences would see
def test_gradient_equals_finite_differences(name: str, kl: Any) -> None:
    settings = replace(settings_named(name), kl=kl, kl_weight=0.1)
    batch = small_batch(ref_N=torch.linspace(-1.5, -0.1, 6, dtype=torch.float64))

    def loss(logp_N: Tensor) -> Tensor:
        return policy_loss(replace(batch, logp_N=logp_N), settings).loss

    assert torch.autograd.gradcheck(loss, batch.logp_N)


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("aggregation", ["grpo", "bnpo", "dr_grpo", "dapo"])
def test_on_policy_ratio_is_exactly_one_and_the_gradient_is_reinforce(aggregation: Any, level: Any) -> None:
    logp = torch.randn(6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    adv, segment = torch.tensor([1.0, -0.5, 0.25]), torch.tensor([0, 0, 1, 2, 2, 2])
    settings = LossSettings(aggregation, level=level, max_completion_length=8)
    result = policy_loss(PolicyBatch(logp, logp.detach(), segment, adv), settings)
    (gradient,) = torch.autograd.grad(result.loss, logp)
    by_sequence = torch.tensor([2.0, 2.0, 1.0, 3.0, 3.0, 3.0]) * 3
    divisor = {"grpo": by_sequence, "bnpo": 6.0, "dr_grpo": 3 * 8.0, "dapo": 6.0}[aggregation]
    assert result.mean_ratio == 1.0 and result.clip_share == 0.0 and result.approx_kl == 0.0
    torch.testing.assert_close(gradient, -adv[segment] / divisor, rtol=1e-6, atol=0)


def test_micro_batches_add_up_to_the_whole_batch() -> None:
    """Sequences 0 and 1 together, then 2 and 3, with accumulation 2, against all four at once."""
    generator = torch.Generator().manual_seed(1)
    logp = torch.randn(12, generator=generator, dtype=torch.float64)
    old = logp + 0.3 * torch.randn(12, generator=generator, dtype=torch.float64)
    segment = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 3, 3])
    adv = torch.randn(4, generator=generator, dtype=torch.float64)
    for aggregation in ("grpo", "dr_grpo", "dapo"):
        whole = LossSettings(aggregation, max_completion_length=8, num_items=12)  # type: ignore[arg-type]
        part = replace(whole, accumulation=2)
        halves = [
            policy_loss(PolicyBatch(logp[s], old[s], segment[s] - first, adv[first : first + 2]), part).loss
            for s, first in ((segment < 2, 0), (segment >= 2, 2))
        ]
        torch.testing.assert_close(sum(halves), policy_loss(PolicyBatch(logp, old, segment, adv), whole).loss)


def test_metrics() -> None:
    batch = small_batch(sampler_N=torch.tensor([-0.6, -0.7, -1.3, -0.4, -0.2, -0.65], dtype=torch.float64))
    result = policy_loss(batch, LossSettings())
    ratio = torch.tensor([-0.5, 0.1, 0.3, -0.3, 0.0, 0.4], dtype=torch.float64).exp()
    assert result.clip_share == pytest.approx(1 / 6)  # only the last: 1.49 with positive advantage
    assert result.mean_ratio == pytest.approx(ratio.mean().item())
    assert result.approx_kl == pytest.approx((ratio - 1 - ratio.log()).mean().item())
    assert result.sampler_gap == pytest.approx(0.25)
    assert result.tokens == 6


def test_sequence_without_tokens_counts_in_the_mean_and_no_tokens_at_all_is_zero() -> None:
    full = small_batch()
    padded = replace(full, adv_B=torch.cat([full.adv_B, torch.ones(3, dtype=torch.float64)]))
    half = policy_loss(padded, LossSettings("grpo")).loss
    torch.testing.assert_close(half * 2, policy_loss(full, LossSettings("grpo")).loss)
    nothing = torch.zeros(0, requires_grad=True)
    for aggregation in ("grpo", "bnpo", "dr_grpo", "dapo"):
        settings = LossSettings(aggregation, max_completion_length=8)  # type: ignore[arg-type]
        result = policy_loss(
            PolicyBatch(nothing, nothing.detach(), torch.zeros(0, dtype=torch.int64), torch.ones(2)), settings
        )
        result.loss.backward()  # type: ignore[no-untyped-call]
        assert result.loss.item() == 0.0


def test_settings_that_do_not_go_together() -> None:
    with pytest.raises(UserError, match="clip_high"):
        LossSettings(policy="cispo")
    with pytest.raises(UserError, match="max_completion_length"):
        LossSettings("dr_grpo")
    with pytest.raises(UserError, match="reference"):
        policy_loss(small_batch(), LossSettings(kl="k3", kl_weight=0.1))
