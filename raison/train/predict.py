"""What a run will cost, before it starts: tokens counted from the recipe, rates timed on this machine for a few
seconds.

Assumptions, so that a reader can doubt them: samples are as long as the task's own demonstrations, half of the groups
is dead (of the control's none), the rates of a model that has not learnt yet are those of one that has, and a warm-up
of one step is enough. Large models are timed on fewer tokens. Not covered: the time that other programs take from this
machine while the run is on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from raison.config import BASE, DistillStage, GrpoStage, OptimizerSection, PretrainStage, Recipe, SftStage, Stage
from raison.engine.sequence import SamplingParams
from raison.model import cost
from raison.model.spec import ModelSpec
from raison.model.transformer import Transformer
from raison.tasks.task import Demonstrates
from raison.text import chat
from raison.train import bill, data
from raison.train.bill import StageBill
from raison.train.learner import Learner
from raison.train.stages import Bench
from raison.train.supervised import SupervisedWeights, supervised_loss

TIMED_STEPS = 3
TIMED_TOKENS, LEAST_TOKENS = 4096, 256
TIMED_FLOPS = 5e10
"""Of one timed step; a larger model trains on fewer tokens, and samples fewer answers."""
TIMED_SAMPLES, LEAST_SAMPLES = 128, 32
TIMED_LENGTH = 48
UNKNOWN_LENGTH = 128
DEAD_SHARE = 1 / 2


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens per second of this machine for one model shape, and the lengths that the counts rest on."""

    training: float
    updating: float
    """GRPO's passes, whose precision is another."""
    sampling: float
    prompt: float
    completion: float


Fresh = Callable[[ModelSpec], Transformer]


def predict(
    bench: Bench, stages: Sequence[tuple[Stage, ModelSpec]], fresh: Fresh, base: ModelSpec | None = None,
    known: Mapping[ModelSpec, Rates] | None = None,
) -> tuple[StageBill, ...]:  # fmt: skip
    """A line for each stage and the shape it trains, its evaluation included; `fresh` makes the models to time.

    The evaluation of a model that exists, of shape `base`, is a line of its own before them. Shapes whose rates are
    `known` are not timed.
    """
    rates = {**(known or {})}
    rates |= {spec: measure_rates(bench, fresh(spec)) for spec in {spec for _, spec in stages} - rates.keys()}
    first = () if base is None else (_base_line(bench.recipe, base, rates[base]),)
    return (*first, *(stage_line(bench.recipe, stage, spec, rates[spec]) for stage, spec in stages))


def measure_rates(bench: Bench, model: Transformer) -> Rates:
    """Times a few steps of training and sampling, which the model does not survive."""
    prompts, lengths = _lengths(bench)
    sampling = _time_sampling(bench, model, prompts)
    training, updating = (
        _time_training(bench, model, bench.dtype(kind)) for kind in (SftStage(steps=1), GrpoStage(steps=1))
    )
    return Rates(training, updating, sampling, fmean(len(p) for p in prompts), lengths)


def _lengths(bench: Bench) -> tuple[list[list[int]], float]:
    """Prompts of training problems, and the mean length of their demonstrations in tokens."""
    problems = [bench.problems.at(f"lengths/{i}") for i in range(TIMED_SAMPLES)]
    prompts = [chat.prompt_ids(bench.tokenizer, p.prompt) for p in problems]
    if not isinstance(bench.task, Demonstrates):
        return prompts, float(min(UNKNOWN_LENGTH, bench.recipe.evaluation.budgets[-1]))
    demos = [data.demonstration(bench.tokenizer, p, bench.task.demonstrate(p, 0)) for p in problems]
    return prompts, fmean(len(e.ids) for e in demos) - fmean(len(p) for p in prompts)


def _share(model: Transformer) -> float:
    """How much of the usual the timing of this model may take."""
    return min(1.0, TIMED_FLOPS / (TIMED_TOKENS * cost.training_flops(model.spec, TIMED_LENGTH)))


def _time_training(bench: Bench, model: Transformer, dtype: torch.dtype) -> float:
    learner = Learner(model, OptimizerSection(), TIMED_STEPS, dtype)
    make, tokens_each = _timed_examples(bench), max(LEAST_TOKENS, int(_share(model) * TIMED_TOKENS))
    seconds, tokens = 0.0, 0
    for number in range(TIMED_STEPS):
        start = time.perf_counter()
        batch = data.pack(data.fill(make, f"timing/{number}", tokens_each))
        out = supervised_loss(model, batch, SupervisedWeights(mtp=0.1), dtype)
        learner.backward(out.total, out.routings)
        learner.update(number)
        if number:  # the first step warms up
            seconds, tokens = seconds + time.perf_counter() - start, tokens + batch.tokens
    return tokens / seconds


def _timed_examples(bench: Bench) -> data.ExampleAt:
    if isinstance(bench.task, Demonstrates):
        return data.demonstrations(bench.problems, SftStage(steps=1), bench.tokenizer)
    return lambda key: chat.document(bench.tokenizer, bench.problems.at(key).prompt * 8)


def _time_sampling(bench: Bench, model: Transformer, prompts: list[list[int]]) -> float:
    engine = bench.engine(model)
    params = SamplingParams(thinking_budget=TIMED_LENGTH, answer_tokens=8, max_tokens=TIMED_LENGTH)
    engine.generate(prompts[:8], params)
    prompts = prompts[: max(LEAST_SAMPLES, int(_share(model) * len(prompts)))]
    start = time.perf_counter()
    samples = engine.generate(prompts, params)
    return sum(len(c.token_ids) for group in samples for c in group) / (time.perf_counter() - start)


def stage_line(recipe: Recipe, stage: Stage, spec: ModelSpec, rates: Rates) -> StageBill:
    """What a stage on a model of that shape will take at these rates."""
    with_mtp = getattr(stage, "mtp_weight", 0.0) > 0
    context = int(rates.prompt + rates.completion / 2)
    trained = cost.training_flops(spec, context, mtp=with_mtp, frozen=recipe.lora is not None)
    sampled = cost.decode_flops(spec, context)
    kinds = [
        bill.work_from_rate(trained_tokens(stage, rates), trained, _training_rate(stage, rates)),
        bill.work_from_rate(sampled_tokens(recipe, stage, rates), sampled, rates.sampling),
    ]
    return bill.predict(stage.name, [k for k in kinds if k.tokens], recipe.bill)


def _base_line(recipe: Recipe, spec: ModelSpec, rates: Rates) -> StageBill:
    flops = cost.decode_flops(spec, int(rates.prompt + rates.completion / 2))
    work = bill.work_from_rate(recipe.evaluation.problems * rates.completion, flops, rates.sampling)
    return bill.predict(BASE, [work], recipe.bill)


def _training_rate(stage: Stage, rates: Rates) -> float:
    return rates.updating if isinstance(stage, GrpoStage) else rates.training


def trained_tokens(stage: Stage, rates: Rates) -> float:
    """Tokens through forward and backward passes."""
    if not isinstance(stage, GrpoStage):
        return float(stage.steps * stage.batch_tokens)
    dead = 0.0 if stage.reward == "random" else DEAD_SHARE
    alive = min(1.0, (1 - dead) * (1 + stage.refill_rounds * dead))
    return stage.steps * stage.problems * stage.group_size * alive * (rates.prompt + rates.completion)


def sampled_tokens(recipe: Recipe, stage: Stage, rates: Rates) -> float:
    """Tokens that the engine writes for the stage and for its evaluation."""
    samples = 0.0 if isinstance(stage, PretrainStage) else float(recipe.evaluation.problems)
    if isinstance(stage, GrpoStage):
        samples += stage.steps * stage.problems * stage.group_size * (1 + stage.refill_rounds * DEAD_SHARE)
    elif isinstance(stage, DistillStage):
        samples += stage.problems * stage.samples
    return samples * rates.completion
