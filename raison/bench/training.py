"""How fast this machine trains: pre-training against the measured peak, and a GRPO step against TRL's GRPOTrainer.

Both trainers get the same prompts, group size, lengths, batch and a reward that is a coin, from random weights of
nearly the same number of parameters; ours is DeepSeek-V3's architecture, theirs TRL's usual Llama. A step is
sampling, scoring, forward, backward and update. Blocks of steps alternate in one process, so that a noisy machine
disturbs both alike. Both run in fp32 and in bf16 (ours samples in fp32 either way), and of TRL's two the better counts.
Not covered: engines that TRL can
be given on a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from raison import hardware
from raison.bench.note import Note, unheard
from raison.config import GrpoStage, OptimizerSection, Precision, Recipe, SftStage, TaskSection, TrainSection
from raison.errors import UserError
from raison.model import cost
from raison.model.spec import PRESETS, ModelSpec
from raison.model.transformer import Transformer, initialise
from raison.tasks.catalog import load_task
from raison.text.tokenizer import Tokenizer
from raison.think.budget import ANSWER_TOKENS
from raison.train import data
from raison.train.grpo import GrpoStep
from raison.train.learner import Learner
from raison.train.origin import Origin
from raison.train.rollout import RolloutLog, Sampler
from raison.train.stages import Bench
from raison.train.supervised import SupervisedWeights, supervised_loss

PROBLEMS, GROUP, LENGTH = 8, 8, 128
BATCH_TOKENS = 8192
CONTEXT = 64
DENSE = replace(
    PRESETS["tiny"], n_routed_experts=0, num_experts_per_tok=0, n_shared_experts=0, moe_intermediate_size=0,
    n_group=1, topk_group=1, first_k_dense_replace=0, num_nextn_predict_layers=0, intermediate_size=192,
)  # fmt: skip
"""About the 0.8 M parameters of the Llama that TRL trains beside it."""


def bench_training(steps: int, against: str | None, threads: int, note: Note = unheard) -> dict[str, Any]:
    """Figures as plain numbers; rates in tokens/s, times in seconds (medians over `steps`)."""
    note("pre-training the tiny preset")
    result: dict[str, Any] = {"threads": threads, "steps": steps, **pretraining(steps)}
    with TemporaryDirectory() as scratch:
        blocks = {
            f"{name}_{precision}": partial(our_seconds, spec, precision, Path(scratch) / name / precision, steps)
            for name, spec in {"dense": DENSE, "tiny": PRESETS["tiny"]}.items()
            for precision in ("fp32", "bf16")
        }
        rivals = _rivals(against, Path(scratch), steps)
        seconds = alternate({**blocks, **rivals}, note)
    result |= {f"grpo_step_seconds_{name}": value for name, value in seconds.items()}
    result["grpo_parameters_dense"] = cost.parameters(DENSE)
    result["grpo_parameters_tiny"] = cost.parameters(PRESETS["tiny"])
    if rivals:
        best = min(seconds[name] for name in rivals)
        result |= {f"times_faster_than_trl_{name}": best / seconds[name] for name in blocks}
    return result


def pretraining(steps: int) -> dict[str, Any]:
    """Tokens/s of the tiny preset with its MTP module, and the share of the measured matrix-product peak in use."""
    machine = hardware.probe(refresh=True)  # an old figure may be of a busy hour
    tokenizer, spec = Tokenizer.build(), PRESETS["tiny"]
    task = load_task("countdown")
    make = data.demonstrations(data.Problems(task, TaskSection(name="countdown")), SftStage(steps=1), tokenizer)
    found: dict[str, Any] = {}
    for name, dtype, peak in (
        ("bf16", torch.bfloat16, machine.bf16_gflops),
        ("fp32", torch.float32, machine.fp32_gflops),
    ):
        learner = Learner(initialise(Transformer(spec), 0), OptimizerSection(), steps, dtype)
        rate = _rate(lambda n, one=learner: _supervised_step(one, make, n), steps)  # type: ignore[misc]
        flops = cost.training_flops(spec, CONTEXT, mtp=True)
        found |= {
            f"pretrain_{name}_tokens_per_second": rate,
            f"pretrain_{name}_share_of_peak": rate * flops / (peak * 1e9),
        }
    return found


def _supervised_step(learner: Learner, make: data.ExampleAt, number: int) -> int:
    batch = data.pack(data.fill(make, f"bench/{number}", BATCH_TOKENS))
    out = supervised_loss(learner.model, batch, SupervisedWeights(mtp=0.3, balance=1e-4), learner.dtype)
    learner.backward(out.total, out.routings)
    learner.update(number)
    return batch.tokens


def _rate(step: Callable[[int], int], steps: int) -> float:
    """Tokens per second: the median over steps, the first left out."""
    rates = []
    for number in range(steps + 1):
        start = time.perf_counter()
        tokens = step(number)
        rates.append(tokens / (time.perf_counter() - start))
    return median(rates[1:])


def our_seconds(spec: ModelSpec, precision: Precision, folder: Path, steps: int) -> list[float]:
    """Seconds of `steps` GRPO steps of ours on random weights, after one that warms up.

    Random weights write to the limit, and the coin leaves hardly a group dead: as much work as a step can be.
    """
    stage = GrpoStage(
        steps=1, problems=PROBLEMS, group_size=GROUP, budget=LENGTH - ANSWER_TOKENS - 1, reward="random", control=False,
        refill_rounds=0, batch_tokens=2 * BATCH_TOKENS,
        optimizer=OptimizerSection(kind="adamw", lr=1e-6, schedule="constant", warmup=0),
    )  # fmt: skip
    train = TrainSection(rl_precision=precision)
    recipe = Recipe(name="bench", model=spec, task=TaskSection(name="countdown"), stages=(stage,), train=train)
    bench = Bench(recipe, folder, Origin(recipe, folder), load_task("countdown"))
    learner = Learner(initialise(Transformer(spec), 0), stage.optimizer, 1 << 20, bench.dtype(stage))
    sampler = Sampler(bench.engine(learner.model), bench.problems, stage, seed=0)
    step = GrpoStep(learner, sampler, stage, RolloutLog(folder / "rollouts.jsonl"))
    seconds = []
    for number in range(steps + 1):
        start = time.perf_counter()
        step(number)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def alternate(blocks: dict[str, Callable[[], list[float]]], note: Note) -> dict[str, float]:
    """Median seconds of a step for each, from blocks of steps taken in turn, twice."""
    times: dict[str, list[float]] = {name: [] for name in blocks}
    for turn in range(2):
        for name, block in blocks.items():
            times[name] += block()
            note(f"GRPO steps of {name}, turn {turn + 1}: {median(times[name]):.3f} s")
    return {name: median(seconds) for name, seconds in times.items()}


def _rivals(against: str | None, scratch: Path, steps: int) -> dict[str, Callable[[], list[float]]]:
    if against is None:
        return {}
    if against != "trl":
        raise UserError(f'there is no rival "{against}" for training; there is: trl')
    try:
        from raison.bench.trl_peer import trl_seconds  # optional: the extra `peers`
    except ImportError as error:
        raise UserError(f"TRL cannot be imported ({error}); pip install 'raison[peers]' to compare with it") from None
    return {
        name: partial(trl_seconds, scratch / name, PROBLEMS, GROUP, LENGTH, bf16, steps)
        for name, bf16 in (("trl_fp32", False), ("trl_bf16", True))
    }
