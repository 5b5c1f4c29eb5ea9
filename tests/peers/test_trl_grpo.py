"""Our objective against TRL's own: GRPOTrainer._compute_loss on the same log-probabilities, in value and gradient.

TRL's forward pass is replaced by a leaf tensor of float64 log-probabilities, so that what is compared is the
objective alone. Runs where the extra `peers` is installed.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor

from raison.train.policy_loss import LossSettings, PolicyBatch, correction_weights, policy_loss

pytest.importorskip("trl")
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

ROWS, WIDTH = 8, 6
LENGTHS = (6, 3, 1, 5, 4, 6, 2, 6)

CASES: dict[str, tuple[dict[str, Any], LossSettings]] = {
    "grpo": ({"loss_type": "grpo"}, LossSettings("grpo")),
    "bnpo": ({"loss_type": "bnpo"}, LossSettings("bnpo")),
    "dr_grpo": ({"loss_type": "dr_grpo"}, LossSettings("dr_grpo", max_completion_length=16)),
    "dapo": ({"loss_type": "dapo"}, LossSettings("dapo", num_items=66)),
    "clip_higher": ({"loss_type": "dapo", "epsilon_high": 0.28}, LossSettings(clip_high=0.28, num_items=66)),
    "delta": ({"loss_type": "dapo", "delta": 1.3}, LossSettings(delta=1.3, num_items=66)),
    "k3": ({"loss_type": "dapo", "beta": 0.04}, LossSettings(kl="k3", kl_weight=0.04, num_items=66)),
    "k3_corrected": (
        {"loss_type": "dapo", "beta": 0.04, "use_bias_correction_kl": True},
        LossSettings(kl="k3_corrected", kl_weight=0.04, num_items=66),
    ),
    "cispo": ({"loss_type": "cispo", "epsilon_high": 5.0}, LossSettings(policy="cispo", clip_high=5.0, num_items=66)),
    "gspo": ({"loss_type": "grpo", "importance_sampling_level": "sequence"}, LossSettings("grpo", level="sequence")),
    "sapo": ({"loss_type": "sapo"}, LossSettings("grpo", policy="sapo")),
    "accumulation": ({"loss_type": "grpo", "accumulation": 4}, LossSettings("grpo", accumulation=4)),
    "corrected": ({"loss_type": "dapo", "corrected": True}, LossSettings(num_items=66)),
}


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> GRPOTrainer:
    words = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(("<pad>", "<eos>", "<unk>", "a"))}, unk_token="<unk>")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    shape = LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, pad_token_id=0
    )
    arguments = GRPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")), use_cpu=True, bf16=False, gradient_checkpointing=False,
        report_to="none", max_completion_length=16, per_device_train_batch_size=ROWS, num_generations=4,
    )  # fmt: skip
    return GRPOTrainer(
        LlamaForCausalLM(shape), reward_funcs=lambda completions, **_: [0.0] * len(completions), args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "a"}] * ROWS), processing_class=tokenizer,
    )  # fmt: skip


def grids() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def noise(scale: float) -> Tensor:
        return scale * torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64)

    old = -noise(1.0).abs()
    return {"old": old, "logp": old + noise(0.5), "ref": old + noise(0.3), "sampler": old + noise(0.4)}


def theirs(
    trainer: GRPOTrainer, options: dict[str, Any], grid: dict[str, Tensor], adv: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss and its gradient by log-probability, [ROWS, WIDTH]."""
    logp = grid["logp"].clone().requires_grad_()
    trainer.loss_type = options["loss_type"]
    trainer.epsilon_low, trainer.epsilon_high = 0.2, options.get("epsilon_high", 0.2)
    trainer.args.delta, trainer.beta = options.get("delta"), options.get("beta", 0.0)
    trainer.args.use_bias_correction_kl = options.get("use_bias_correction_kl", False)
    trainer.importance_sampling_level = options.get("importance_sampling_level", "token")
    trainer.current_gradient_accumulation_steps = options.get("accumulation", 1)
    trainer.use_vllm = trainer.vllm_importance_sampling_correction = options.get("corrected", False)

    def forward(*_: Any, **__: Any) -> tuple[Tensor, Tensor, None]:
        return logp, torch.zeros_like(logp), None

    trainer._get_per_token_logps_and_entropies = MethodType(forward, trainer)
    ids = torch.zeros(ROWS, WIDTH, dtype=torch.int64)
    sums = ((grid["old"] - grid["sampler"]) * mask).sum(1, keepdim=True)
    inputs = {
        "prompt_ids": ids[:, :1], "prompt_mask": torch.ones_like(ids[:, :1]), "completion_ids": ids,
        "completion_mask": mask.long(), "advantages": adv, "old_per_token_logps": grid["old"],
        "ref_per_token_logps": grid["ref"], "num_items_in_batch": torch.tensor(66.0, dtype=torch.float64),
        "importance_sampling_ratio": sums.exp().masked_fill(sums.exp() > 3.0, 0.0),
    }  # fmt: skip
    loss = trainer._compute_loss(trainer.model.train(), inputs)
    (gradient,) = torch.autograd.grad(loss, logp)
    return loss.detach(), gradient


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_equal_trl(trainer: GRPOTrainer, name: str) -> None:
    options, settings = CASES[name]
    grid, mask = grids(), torch.arange(WIDTH) < torch.tensor(LENGTHS)[:, None]
    adv = torch.tensor([1.1, -0.9, -0.9, 0.7, 0.4, -1.3, 0.0, 0.9], dtype=torch.float64)
    expected_loss, expected_gradient = theirs(trainer, options, grid, adv, mask)
    segment = torch.arange(ROWS).repeat_interleave(torch.tensor(LENGTHS))
    flat = {key: value[mask] for key, value in grid.items()}
    weights = correction_weights(flat["old"], flat["sampler"], segment, ROWS) if "corrected" in options else None
    logp = flat["logp"].requires_grad_()
    result = policy_loss(PolicyBatch(logp, flat["old"], segment, adv, flat["ref"], is_weights_N=weights), settings)
    (gradient,) = torch.autograd.grad(result.loss, logp)
    # TRL makes SAPO's two temperatures in float32, 1e-8 away from what was asked for.
    tolerance = 1e-6 if name == "sapo" else 1e-8
    torch.testing.assert_close(result.loss, expected_loss, rtol=0, atol=tolerance)
    torch.testing.assert_close(gradient, expected_gradient[mask], rtol=0, atol=tolerance)
