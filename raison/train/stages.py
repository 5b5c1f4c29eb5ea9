"""One function per kind of stage: from its settings to the step that the loop calls.

`prepare` looks the kind up in one table. Not covered: the loop, checkpoints, evaluation, the order of stages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from raison.config import DistillStage, GrpoStage, PretrainStage, Recipe, RejectStage, SftStage, Stage
from raison.engine.engine import Engine, EngineSettings
from raison.errors import UserError
from raison.model.transformer import Transformer
from raison.reasoner import cache_that_fits
from raison.tasks.catalog import load_task
from raison.tasks.task import Task
from raison.text.chat import Example
from raison.text.tokenizer import Tokenizer
from raison.train import data, distill
from raison.train.conversations import read_conversations
from raison.train.data import ExampleAt, Problems
from raison.train.grpo import GrpoStep
from raison.train.learner import Learner
from raison.train.loop import Loop, StepOutcome
from raison.train.reject import select
from raison.train.rollout import RolloutLog, Sampler, read_rollouts
from raison.train.supervised import SupervisedWeights, supervised_loss
from raison.weights import folder

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CACHE_TOKENS = 1 << 17
MAX_BATCH = 512

StepFunction = Callable[[int], StepOutcome]


@dataclass(frozen=True, slots=True)
class Bench:
    """What every stage works with. `folder` is the run's; a stage's own is `folder/stages/<name>`."""

    recipe: Recipe
    folder: Path
    tokenizer: Tokenizer
    task: Task
    """The training side of the split."""

    def dtype(self, stage: Stage) -> torch.dtype:
        """What the stage's products are computed in."""
        train = self.recipe.train
        return DTYPES[train.rl_precision if isinstance(stage, GrpoStage) else train.precision]

    @property
    def problems(self) -> Problems:
        return Problems(self.task, self.recipe.task)

    def stage_folder(self, name: str) -> Path:
        return self.folder / "stages" / name

    def engine(self, model: Transformer) -> Engine:
        """Samples in fp32: what native code runs fastest, and what no rounded router score can mislead."""
        tokens = min(CACHE_TOKENS, cache_that_fits(model.spec))
        return Engine(model, self.tokenizer, EngineSettings(cache_tokens=tokens, max_batch=MAX_BATCH))


def new_learner(bench: Bench, stage: Stage, model: Transformer) -> Learner:
    updates = stage.steps * (stage.minibatches if isinstance(stage, GrpoStage) else 1)
    gamma = stage.bias_gamma if isinstance(stage, PretrainStage) else 0.0
    return Learner(model, stage.optimizer, updates, bench.dtype(stage), gamma)


def prepare(bench: Bench, stage: Stage, loop: Loop) -> StepFunction:
    """The step function of `stage` over the loop's learner, which may have been restored already."""
    if isinstance(stage, PretrainStage):
        return _pretrain(bench, stage, loop.learner)
    if isinstance(stage, SftStage):
        return _sft(bench, stage, loop.learner)
    if isinstance(stage, GrpoStage):
        return _grpo(bench, stage, loop)
    if isinstance(stage, RejectStage):
        return _reject(bench, stage, loop.learner)
    return _distill(bench, stage, loop.learner)


def _sft(bench: Bench, stage: SftStage, learner: Learner) -> StepFunction:
    if stage.chat:
        longest = learner.model.spec.max_position_embeddings
        make = data.from_list(read_conversations(Path(stage.chat), bench.tokenizer, longest))
    else:
        make = data.demonstrations(bench.problems, stage, bench.tokenizer)
    return _supervised(bench, stage, learner, make, SupervisedWeights(stage.mtp_weight))


def _pretrain(bench: Bench, stage: PretrainStage, learner: Learner) -> StepFunction:
    weights = SupervisedWeights(stage.mtp_weight, stage.balance_weight)
    return _supervised(bench, stage, learner, _documents(bench, stage), weights)


def _documents(bench: Bench, stage: PretrainStage) -> ExampleAt:
    return data.documents([(load_task(share.task), share) for share in stage.documents], bench.tokenizer)


def _supervised(
    bench: Bench, stage: Stage, learner: Learner, make: ExampleAt, weights: SupervisedWeights
) -> StepFunction:
    key = f"{bench.recipe.seed}/{stage.name}"

    def step(number: int) -> StepOutcome:
        batch = data.pack(data.fill(make, f"{key}/{number}", stage.batch_tokens))
        out = supervised_loss(learner.model, batch, weights, learner.dtype)
        learner.backward(out.total, out.routings)
        norm = learner.update(number)
        figures = {"loss": out.next_token, "mtp": out.mtp, "entropy": out.entropy, "grad_norm": norm}
        return StepOutcome(batch.tokens, figures=figures)

    return step


def _grpo(bench: Bench, stage: GrpoStage, loop: Loop) -> StepFunction:
    sampler = Sampler(bench.engine(loop.learner.model), bench.problems, stage, bench.recipe.seed)
    log = RolloutLog(bench.stage_folder(stage.name) / "rollouts.jsonl", loop.next_step)
    return GrpoStep(loop.learner, sampler, stage, log)


def _reject(bench: Bench, stage: RejectStage, learner: Learner) -> StepFunction:
    rollouts = read_rollouts(bench.stage_folder(stage.source) / "rollouts.jsonl")
    examples = select(rollouts, stage.keep, stage.per_problem, stage.last_share, bench.recipe.seed)
    return _supervised(bench, stage, learner, data.from_list(examples), SupervisedWeights(stage.mtp_weight))


def _distill(bench: Bench, stage: DistillStage, learner: Learner) -> StepFunction:
    examples = _teacher_examples(bench, stage)
    first = next((s for s in bench.recipe.stages if isinstance(s, PretrainStage)), None)
    weights = SupervisedWeights(stage.mtp_weight)
    taught = _supervised(bench, stage, learner, data.from_list(examples), weights)
    if not stage.pretrain_steps:
        return taught
    if first is None:
        raise UserError(f'stage "{stage.name}" asks for pretrain_steps, but the recipe has no pretrain stage')
    plain = _supervised(bench, stage, learner, _documents(bench, first), weights)
    return lambda number: (plain if number < stage.pretrain_steps else taught)(number)


def _teacher_examples(bench: Bench, stage: DistillStage) -> list[Example]:
    path = bench.stage_folder(stage.name) / "rollouts.jsonl"
    if not path.exists():
        teacher = folder.load(bench.stage_folder(stage.teacher) / "model").model
        distill.write_samples(bench.engine(teacher), bench.problems, stage, bench.recipe.seed, path)
    return select(read_rollouts(path), keep="all", per_problem=stage.samples, last_share=1.0, seed=bench.recipe.seed)
