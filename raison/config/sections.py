"""The sections of a recipe that are not stages: task, training machine, optimizer, evaluation, bill.

Each checks its own ranges. Not covered: what uses them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from raison.errors import UserError

Precision = Literal["fp32", "bf16"]
SamplingPrecision = Literal["fp32", "bf16", "q8", "q4"]


def at_least(record: Any, low: float, *names: str) -> None:
    """Raise UserError for the first of the fields `names` that is below `low`."""
    for name in names:
        if getattr(record, name) < low:
            raise UserError(f"{name} is {getattr(record, name)}; it must be at least {low}")


def above_zero(record: Any, *names: str) -> None:
    for name in names:
        if getattr(record, name) <= 0:
            raise UserError(f"{name} is {getattr(record, name)}; it must be above 0")


def share(record: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(record, name) <= 1:
            raise UserError(f"{name} is {getattr(record, name)}; a share lies between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Share:
    """One of several sources of text and how much of it to take."""

    task: str
    """Name of a task that has documents."""
    weight: float = 1.0
    """Share of the tokens, in proportion to the other weights."""

    def __post_init__(self) -> None:
        above_zero(self, "weight")


@dataclass(frozen=True, kw_only=True)
class TaskSection:
    """What the model learns to solve."""

    name: str
    """A task of the catalogue, a JSONL file, or `file.py:Name`."""
    checker: str | None = None
    """For a JSONL file the name of its checker; else what stands in for the task's own, as `file.py:function`."""
    levels: tuple[int, ...] = (3,)
    """Difficulties that training problems are drawn from; for Countdown, how many numbers."""
    weights: tuple[float, ...] = ()
    """How often each level is drawn, in proportion; empty = all alike."""

    def __post_init__(self) -> None:
        if not self.levels:
            raise UserError("levels is empty; give at least one, such as [3]")
        if self.weights and len(self.weights) != len(self.levels):
            raise UserError(f"weights has {len(self.weights)} values for {len(self.levels)} levels; give one for each")
        if any(weight < 0 for weight in self.weights) or (self.weights and not sum(self.weights)):
            raise UserError("weights must be 0 or more, and not all 0")


@dataclass(frozen=True, kw_only=True)
class TrainSection:
    """How this machine trains; it changes speed and rounding, not what is learnt."""

    precision: Precision = "bf16"
    """Of matrix products in supervised stages; weights and optimizer state stay fp32."""
    rl_precision: Precision = "fp32"
    """Of GRPO's updates."""
    sampling: SamplingPrecision = "fp32"
    """Of rollouts and evaluation: fp32, bf16, or weights of 8 or 4 bits, rounded anew after each step (`correction` in
    a grpo stage weighs the difference). In fp32 engine and trainer agree to 1e-4 nats; below it a rounded score sends
    a token to another expert now and then, and the two part by whole nats there. Dense models need not care."""
    threads: int = 0
    """0 = all cores."""

    def __post_init__(self) -> None:
        at_least(self, 0, "threads")


@dataclass(frozen=True, kw_only=True)
class LoraSection:
    """Low-rank adapters in place of full fine-tuning: the model's own weights stay frozen."""

    rank: int = 16
    """Inner width of an adapter."""
    alpha: float = 32.0
    """An adapter is scaled by alpha / rank."""
    targets: tuple[str, ...] = ()
    """Projections by the end of their names, such as ["q_proj", "v_proj"], "experts.down_proj"; empty = all."""

    def __post_init__(self) -> None:
        at_least(self, 1, "rank")
        above_zero(self, "alpha")
        if not all(self.targets):
            raise UserError("targets has an empty name; leave targets out to adapt all projections")


@dataclass(frozen=True, kw_only=True)
class TeacherSection:
    """A teacher that lies on this machine."""

    model: str
    """A folder, a .gguf file, "smollm2" or a name of the hub."""


@dataclass(frozen=True, kw_only=True)
class EndpointSection:
    """A model behind an OpenAI-compatible endpoint."""

    url: str
    """Up to where `/chat/completions` is added, such as "http://127.0.0.1:8000/v1"."""
    model: str
    """What the endpoint calls it."""
    key_env: str = ""
    """Environment variable that holds the key; empty = the endpoint wants none."""
    concurrency: int = 8
    """Requests under way at once."""
    retries: int = 5
    """How often a request is tried again after a failure that may pass."""
    timeout_seconds: float = 600.0
    """Of one try."""

    def __post_init__(self) -> None:
        at_least(self, 1, "concurrency")
        at_least(self, 0, "retries")
        above_zero(self, "timeout_seconds")
        if not self.url.startswith(("http://", "https://")):
            raise UserError(f'url is "{self.url}"; it starts with http:// or https://')


@dataclass(frozen=True, kw_only=True)
class OptimizerSection:
    """One stage's optimizer and its schedule of learning rates."""

    kind: Literal["adamw", "muon"] = "muon"
    """muon = Muon for the matrices inside the blocks, AdamW for all else, adapters included."""
    lr: float = 2e-3
    """Peak learning rate of AdamW."""
    muon_lr: float = 0.02
    """Peak learning rate of Muon; unused with adamw."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates of the first and second moment (DeepSeek-V3 report, section 4.2)."""
    weight_decay: float = 0.1
    """Decoupled; norms and embeddings are not decayed."""
    clip: float = 1.0
    """Largest global norm of the gradient; 0 = no clipping."""
    schedule: Literal["constant", "cosine", "wsd"] = "wsd"
    """After the warm-up: constant; a cosine to the end; or constant, then a linear decay over the last steps (WSD)."""
    warmup: int = 20
    """Steps over which the learning rate rises from 0."""
    decay_share: float = 0.4
    """Share of all steps in which wsd decays."""
    final_lr_share: float = 0.1
    """Learning rate at the end, as a share of the peak."""

    def __post_init__(self) -> None:
        above_zero(self, "lr", "muon_lr")
        at_least(self, 0, "weight_decay", "clip", "warmup")
        share(self, "decay_share", "final_lr_share")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"betas is {list(self.betas)}; each must be at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class EvaluationSection:
    """The fresh problems that every stage, and the report, is judged on; none of them is trained on."""

    problems: int = 1000
    """How many; 1,000 give a 95 % interval of about +-0.03 at most."""
    level: int = 3
    """Their difficulty."""
    budgets: tuple[int, ...] = (64, 128, 256, 512)
    """Thinking budgets in tokens for the curve of accuracy over budget; the last is the one that is quoted."""
    votes: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of samples for the curve of accuracy over votes."""
    temperature: float = 1.0
    """Of sampling; 0 = greedy."""
    seed: int = 1_000_000_007
    """Names the problems. Training draws its problems from other seeds."""

    def __post_init__(self) -> None:
        at_least(self, 1, "problems")
        at_least(self, 0, "temperature")
        for name, low in (("budgets", 0), ("votes", 1)):
            values = getattr(self, name)
            if not values or min(values) < low or list(values) != sorted(set(values)):
                raise UserError(f"{name} is {list(values)}; give rising numbers of at least {low}")


@dataclass(frozen=True, kw_only=True)
class BillSection:
    """What a second of this machine costs."""

    watts: float = 60.0
    """Drawn at the wall while training. A guess until measured: two server cores with their share of the rest."""
    usd_per_kwh: float = 0.15
    """Price of energy."""
    usd_per_hour: float = 0.0
    """Rent of the machine; 0 = it is yours."""

    def __post_init__(self) -> None:
        at_least(self, 0, "watts", "usd_per_kwh", "usd_per_hour")
