"""Equivalences of training: microbatches, trainer and engine, on-policy ratios."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from raison.config import GrpoStage, OptimizerSection, Recipe
from raison.engine.engine import Engine
from raison.model.transformer import Transformer, initialise
from raison.tasks.countdown import Countdown
from raison.train.grpo import GrpoStep, Micro, credit, microbatches, score, share_of
from raison.train.learner import Learner
from raison.train.origin import Origin
from raison.train.rollout import RolloutLog, Round, Sampler
from raison.train.stages import Bench
from tests.train.runs import small

STAGE = GrpoStage(
    steps=4, problems=6, group_size=4, budget=24, reward="random", control=False, batch_tokens=100_000,
    optimizer=OptimizerSection(kind="adamw", lr=1e-3, schedule="constant", warmup=0),
)  # fmt: skip


def bench_of(folder: Path, precision: str = "fp32") -> Bench:
    recipe: Recipe = small(train={"rl_precision": precision})
    return Bench(recipe, folder, Origin(recipe, folder), Countdown())


def stepper(folder: Path, stage: GrpoStage, precision: str = "fp32") -> GrpoStep:
    bench = bench_of(folder, precision)
    model = initialise(Transformer(replace(bench.recipe.model, initializer_range=0.1)), seed=3)
    learner = Learner(model, stage.optimizer, stage.steps * stage.minibatches, bench.dtype(stage))
    return GrpoStep(
        learner, Sampler(bench.engine(model), bench.problems, stage, 0), stage, RolloutLog(folder / "log.jsonl")
    )


def drawn_round(folder: Path) -> tuple[GrpoStep, Round]:
    step = stepper(folder, STAGE)
    return step, step.sampler.draw(0)


def test_engine_log_probabilities_are_the_trainers(tmp_path: Path) -> None:
    step, drawn = drawn_round(tmp_path)
    micro = Micro.of(credit(drawn, STAGE))
    with torch.no_grad():
        trained = score(step.learner.model, micro.packed, STAGE.temperature, torch.float32).logp_n
    assert micro.counted > 300
    assert (trained - micro.sampler_n).abs().max() < 1e-4


def test_they_agree_at_another_temperature_too(tmp_path: Path) -> None:
    stage = replace(STAGE, temperature=0.7)
    step = stepper(tmp_path, stage)
    micro = Micro.of(credit(step.sampler.draw(0), stage))
    with torch.no_grad():
        trained = score(step.learner.model, micro.packed, stage.temperature, torch.float32).logp_n
    assert (trained - micro.sampler_n).abs().max() < 1e-4


@pytest.mark.parametrize("loss", ["dapo", "dr_grpo", "grpo"])
def test_one_batch_of_eight_is_eight_batches_of_one(tmp_path: Path, loss: str) -> None:
    """Gradients of one pass over all samples equal those of many small passes."""
    gradients: list[dict[str, Tensor]] = []
    for tokens in (1, 120, 100_000):
        stage = replace(STAGE, batch_tokens=tokens, loss=loss)  # type: ignore[arg-type]
        step = stepper(tmp_path / f"{loss}-{tokens}", stage)
        samples = credit(step.sampler.draw(0), stage)
        runs = [Micro.of(run) for run in microbatches(samples, tokens)]
        assert len(runs) == len(samples) if tokens == 1 else len(runs) >= 1
        for micro in runs:
            step._backward(micro, None, share_of(micro, runs, stage.loss))
        gradients.append({n: p.grad.clone() for n, p in step.learner.model.named_parameters() if p.grad is not None})
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_one_minibatch_is_exactly_on_policy(tmp_path: Path) -> None:
    outcome = stepper(tmp_path, STAGE)(0)
    assert outcome.figures["ratio"] == 1.0
    assert outcome.figures["clip_share"] == 0.0
    assert outcome.figures["sampler_gap"] < 1e-4


def test_more_minibatches_leave_the_policy_and_are_seen_to(tmp_path: Path) -> None:
    outcome = stepper(tmp_path, replace(STAGE, minibatches=4))(0)
    assert outcome.figures["ratio"] != 1.0


def largest_gap(step: GrpoStep) -> float:
    return max(step(number).figures["sampler_gap"] for number in range(4))


def test_the_engine_sees_new_weights_after_each_step(tmp_path: Path) -> None:
    assert largest_gap(stepper(tmp_path, STAGE)) < 1e-4


def test_the_bf16_copy_follows_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding parts trainer and engine a little (another expert now and then); old weights part them by far more."""
    fast = replace(STAGE, optimizer=replace(STAGE.optimizer, lr=0.03))
    fresh = largest_gap(stepper(tmp_path / "fresh", fast, "bf16"))
    monkeypatch.setattr(Engine, "update_weights", lambda engine: None)
    stale = largest_gap(stepper(tmp_path / "stale", fast, "bf16"))
    assert fresh < 1.0 < stale
