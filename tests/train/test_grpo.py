"""Credit and rewards of rounds, minibatches, the rollout log, and that reinforcement does reinforce."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raison.config import GrpoStage, OptimizerSection, TaskSection
from raison.errors import CheckpointError, UserError
from raison.model.transformer import Transformer, initialise
from raison.records import Completion, Problem, Rollout, Verdict
from raison.tasks.countdown import Countdown
from raison.train.data import Problems
from raison.train.grpo import GrpoStep, Micro, credit, describe, minibatches, share_of
from raison.train.learner import Learner
from raison.train.origin import Origin
from raison.train.reject import select
from raison.train.rollout import Group, RolloutLog, Round, Sampler, read_rollouts, reward_of
from raison.train.stages import Bench
from tests.train.runs import small

STAGE = GrpoStage(steps=1, budget=10, group_size=2, control=False)


def rollout(reward: float, *, group: int = 0, step: int = 0, length: int = 3, **changes: object) -> Rollout:
    base = Rollout(
        problem=Problem("countdown", f"problem {group}"), group=group, step=step, policy="grpo@0", prompt_ids=(1, 2),
        completion_ids=tuple(range(10, 10 + length)), logprobs=(-0.5,) * length, verdict=Verdict(reward > 0),
        reward=reward, thinking_tokens=length, truncated=False, seed=0,
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


def drawn(*groups: tuple[float, ...]) -> Round:
    return Round(tuple(Group(tuple(rollout(r, group=i) for r in rewards)) for i, rewards in enumerate(groups)))


def test_dead_groups_teach_nothing_but_are_counted() -> None:
    both = drawn((1.0, 0.0), (1.0, 1.0), (0.0, 0.0))
    assert len(credit(both, STAGE)) == 2
    figures = describe(both)
    assert figures["dead"] == pytest.approx(2 / 3)
    assert figures["solved"] == pytest.approx(0.5)
    assert credit(drawn((1.0, 1.0)), STAGE) == []


def test_advantages_go_to_their_samples() -> None:
    first, second = credit(drawn((1.0, 0.0)), STAGE)
    assert first.advantage == pytest.approx(-second.advantage)
    assert first.advantage > 0 and first.rollout.reward == 1.0


def test_forced_and_masked_tokens_do_not_count() -> None:
    forced = rollout(1.0, logprobs=(-0.5, 0.0, -0.5))
    cut = rollout(0.0, truncated=True)
    counts = [c.counts for c in credit(Round((Group((forced, cut)),)), STAGE)]
    assert counts == [(True, False, True), (True, True, True)]
    masked = credit(Round((Group((forced, cut)),)), replace(STAGE, mask_truncated=True))
    assert masked[1].counts == (False, False, False)


def test_minibatches_are_a_partition_and_follow_the_key() -> None:
    samples = credit(drawn(*[(1.0, 0.0)] * 5), STAGE)
    parts = minibatches(samples, 3, "k")
    assert sorted(map(len, parts)) == [3, 3, 4]
    assert sorted(id(s) for part in parts for s in part) == sorted(map(id, samples))
    assert parts == minibatches(samples, 3, "k")


def completion(thinking: int) -> Completion:
    return Completion(
        text="", thinking="", answer="", token_ids=(1,), logprobs=(-1.0,), finish_reason="stop", prompt_tokens=1,
        cached_tokens=0, thinking_tokens=thinking, answer_tokens=1, forced_close=False, seed=5,
        first_token_seconds=0.0, seconds=0.0,
    )  # fmt: skip


def test_rewards_less_what_length_costs() -> None:
    assert reward_of(Verdict(True), completion(5), STAGE, "k") == 1.0
    shorter = replace(STAGE, length_penalty=0.2)
    assert reward_of(Verdict(True), completion(5), shorter, "k") == pytest.approx(0.9)
    assert reward_of(Verdict(False), completion(5), shorter, "k") == 0.0
    overlong = replace(STAGE, overlong_penalty=1.0, overlong_cache=4)
    assert reward_of(Verdict(True), completion(8), overlong, "k") == pytest.approx(0.5)


def test_the_coin_is_fair_repeatable_and_blind() -> None:
    control = replace(STAGE, reward="random")
    right = [reward_of(Verdict(True), completion(1), control, f"{i}") for i in range(1000)]
    wrong = [reward_of(Verdict(False), completion(9), control, f"{i}") for i in range(1000)]
    assert right == wrong
    assert 420 < sum(right) < 580  # five standard deviations: false alarm below 1e-6


def test_log_round_trip_resume_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    log = RolloutLog(path)
    for step in range(3):
        log.write([rollout(1.0, step=step)])
    log.close()
    assert [r.step for r in read_rollouts(path)] == [0, 1, 2]
    assert next(read_rollouts(path)) == rollout(1.0)
    RolloutLog(path, resume_step=2).close()
    assert [r.step for r in read_rollouts(path)] == [0, 1]
    with path.open("a") as file:
        file.write('{"torn')
    assert len(list(read_rollouts(path))) == 2
    RolloutLog(path, resume_step=5).close()
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(CheckpointError, match="line 1"):
        list(read_rollouts(path))


def test_rejection_keeps_right_whole_and_short() -> None:
    rows = [
        rollout(1.0, length=9), rollout(1.0, length=4), rollout(0.0, length=2),
        rollout(1.0, length=3, truncated=True), rollout(1.0, group=1, length=5),
    ]  # fmt: skip
    kept = select(rows, "shortest", per_problem=1, last_share=1.0, seed=0)
    assert sorted(len(e.ids) for e in kept) == [2 + 4, 2 + 5]
    assert all(e.mask[:2] == [0, 0] and all(e.mask[2:]) for e in kept)
    assert len(select(rows, "all", per_problem=1, last_share=1.0, seed=0)) == 3
    with pytest.raises(UserError, match="nothing to train on"):
        select([rollout(0.0)], "all", 1, 1.0, 0)


def test_only_the_last_steps_are_read() -> None:
    rows = [rollout(1.0, group=i, step=i) for i in range(10)]
    assert len(select(rows, "all", 1, last_share=0.3, seed=0)) == 3


class FirstByte:
    """Pays an answer whose first byte is even: half of what random weights write."""

    name, version = "first-byte", 1

    def sample(self, seed: int, level: int) -> Problem:
        return Problem(self.name, f"{seed % 7 + level}")

    def check(self, problem: Problem, answer: str) -> Verdict:
        return Verdict(bool(answer) and answer.encode()[0] % 2 == 0)


def test_reinforcement_reinforces(tmp_path: Path) -> None:
    """From about one half; 40 steps later at least 0.9 of 64 samples, which chance alone reaches below once in 1e10."""
    stage = GrpoStage(
        steps=40, problems=8, group_size=8, budget=1, control=False, refill_rounds=0,
        optimizer=OptimizerSection(kind="adamw", lr=3e-2, schedule="constant", warmup=0),
    )  # fmt: skip
    recipe = small()
    bench = Bench(recipe, tmp_path, Origin(recipe, tmp_path), FirstByte())
    model = initialise(Transformer(recipe.model), seed=0)
    learner = Learner(model, stage.optimizer, stage.steps, bench.dtype(stage))
    problems = Problems(bench.task, TaskSection(name="first-byte", levels=(1,)))
    step = GrpoStep(learner, Sampler(bench.engine(model), problems, stage, 0), stage, RolloutLog(tmp_path / "log"))
    solved = [step(number).figures["solved"] for number in range(stage.steps)]
    assert 0.2 < solved[0] < 0.8
    assert solved[-1] > 0.9


def test_the_correction_weighs_tokens_by_trainer_over_sampler(tmp_path: Path) -> None:
    """A sampler that claims every token likelier by 0.2 nats: the gradient is e^-0.2 of the uncorrected, or capped."""

    def gradient(shift: float, **changes: Any) -> torch.Tensor:
        stage = GrpoStage(
            steps=1, problems=4, group_size=4, budget=6, reward="random", control=False, refill_rounds=0,
            optimizer=OptimizerSection(kind="adamw", lr=1e-12, schedule="constant", warmup=0, clip=0.0), **changes,
        )  # fmt: skip
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        place.mkdir()
        recipe = small()
        bench = Bench(recipe, place, Origin(recipe, place), Countdown())
        model = initialise(Transformer(recipe.model), seed=0)
        learner = Learner(model, stage.optimizer, 1, bench.dtype(stage))
        sampler = Sampler(bench.engine(model), bench.problems, stage, 0)
        step = GrpoStep(learner, sampler, stage, RolloutLog(place / "log"))
        shifted = [
            replace(c, rollout=replace(c.rollout, logprobs=tuple(x + shift for x in c.rollout.logprobs)))
            for c in credit(sampler.draw(0), stage)
        ]
        for micro in [Micro.of(shifted)]:
            step._backward(micro, None, share_of(micro, [micro], "dapo"))
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    plain = gradient(0.2)
    assert torch.allclose(gradient(0.2, correction="token_truncate"), plain * math.exp(-0.2), rtol=1e-3, atol=1e-7)
    assert torch.allclose(
        gradient(-1.0, correction="token_truncate", correction_cap=1.5), plain * 1.5, rtol=1e-3, atol=1e-7
    )
    assert not gradient(-1.0, correction="token_mask", correction_cap=1.5).any()
