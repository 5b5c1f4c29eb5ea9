"""One function per kind of stage: from its settings to the step that the loop calls.

`prepare` looks the kind up in one table. Not covered: the loop, checkpoints, evaluation, the order of stages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from raison.config import (
    DistillStage,
    EndpointSection,
    GrpoStage,
    PretrainStage,
    Recipe,
    RejectStage,
    SftStage,
    Stage,
    TeacherSection,
)
from raison.engine.engine import Engine
from raison.engine.settings import EngineSettings
from raison.errors import UserError
from raison.model.transformer import Transformer
from raison.reasoner import fitted
from raison.tasks.catalog import load_task
from raison.tasks.task import Task
from raison.text.tokenizer import Tokenizer
from raison.train import data, distill
from raison.train.conversations import read_conversations
from raison.train.data import ExampleAt, Problems
from raison.train.grpo import GrpoStep
from raison.train.learner import Learner
from raison.train.loop import Loop, StepOutcome
from raison.train.origin import Origin
from raison.train.reject import select
from raison.train.rollout import RolloutLog, Sampler, read_rollouts
from raison.train.supervised import SupervisedWeights, supervised_loss
from raison.train.teacher import EndpointTeacher, LocalTeacher, Teacher
from raison.weights import source

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CACHE_TOKENS = 1 << 17
MAX_BATCH = 512

StepFunction = Callable[[int], StepOutcome]


@dataclass(frozen=True, slots=True)
class Bench:
    """What every stage works with. `folder` is the run's; a stage's own is `folder/stages/<name>`."""

    recipe: Recipe
    folder: Path
    origin: Origin
    task: Task
    """The training side of the split."""

    @property
    def tokenizer(self) -> Tokenizer:
        return self.origin.tokenizer

    def dtype(self, stage: Stage) -> torch.dtype:
        """What the stage's products are computed in."""
        train = self.recipe.train
        return DTYPES[train.rl_precision if isinstance(stage, GrpoStage) else train.precision]

    @property
    def problems(self) -> Problems:
        return Problems(self.task, self.recipe.task)

    def stage_folder(self, name: str) -> Path:
        return self.folder / "stages" / name

    def engine(self, model: Transformer, tokenizer: Tokenizer | None = None) -> Engine:
        settings = EngineSettings(cache_tokens=CACHE_TOKENS, max_batch=MAX_BATCH, dtype=self.recipe.train.sampling)
        return Engine(model, tokenizer or self.tokenizer, fitted(settings, model))


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
    return _distill(bench, stage, loop)


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


def _distill(bench: Bench, stage: DistillStage, loop: Loop) -> StepFunction:
    """The teacher is asked at the first step that needs it, so that its time and tokens are the stage's."""
    plain = _first_documents(bench, stage, loop.learner) if stage.pretrain_steps else None
    path = distill.answers_path(stage, bench.stage_folder(stage.name))
    lessons = distill.Lessons(stage, bench.problems, bench.recipe.seed, path, loop.note)
    taught: list[StepFunction] = []

    def step(number: int) -> StepOutcome:
        if plain is not None and number < stage.pretrain_steps:
            return plain(number)
        sampled = lessons.fetch(_teacher(bench, stage)) if lessons.missing else 0
        if not taught:
            make = data.from_list(lessons.examples(bench.tokenizer))
            taught.append(_supervised(bench, stage, loop.learner, make, SupervisedWeights(stage.mtp_weight)))
        return replace(taught[0](number), sampled=sampled)

    return step


def _first_documents(bench: Bench, stage: DistillStage, learner: Learner) -> StepFunction:
    first = next((s for s in bench.recipe.stages if isinstance(s, PretrainStage)), None)
    if first is None:
        raise UserError(f'stage "{stage.name}" asks for pretrain_steps, but the recipe has no pretrain stage')
    return _supervised(bench, stage, learner, _documents(bench, first), SupervisedWeights(stage.mtp_weight))


def _teacher(bench: Bench, stage: DistillStage) -> Teacher:
    if isinstance(stage.teacher, EndpointSection):
        return EndpointTeacher(stage.teacher, stage)
    if isinstance(stage.teacher, TeacherSection):
        loaded = source.load(stage.teacher.model)
        return LocalTeacher(bench.engine(loaded.model, loaded.tokenizer), stage)
    return LocalTeacher(bench.engine(bench.origin.of_stage(bench.recipe.stage(stage.teacher))), stage)
