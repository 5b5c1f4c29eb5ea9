"""One call from a model, a chip and tokens to a training plan: FLOPs, memory and layout, hours, money, energy.

Assumptions that the caller did not make are named in the plan. Not covered: how it is shown (cli/plan_train.py).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from math import inf

from raison.errors import InfeasibleError, UserError
from raison.plan import laws
from raison.plan.chips import Chip
from raison.plan.interval import Interval
from raison.plan.published_runs import known_run
from raison.plan.shape import Shape
from raison.plan.training import Bill, Work, bill, work
from raison.plan.training_memory import TrainingLayout, TrainingMemory, best_layout, idle_share, training_memory
from raison.plan.utilization import Case, Utilization, fitted

TOKENS_A_PARAMETER = 20
"""Where no tokens are given and none are published: about what Chinchilla found best (arXiv:2203.15556, table 3)."""
MOST_CHIPS = 1 << 17


@dataclass(frozen=True, slots=True)
class TrainingAsk:
    """What is to be planned. None: searched, published or assumed, and said so."""

    shape: Shape
    chip: Chip
    chips: int | None = None
    tokens: float | None = None
    sequence: int = 4096
    batch_tokens: float | None = None
    precision: str = "bf16"
    layout: TrainingLayout | None = None
    usd_per_hour: float | None = None

    def __post_init__(self) -> None:
        for name in ("chips", "tokens", "sequence", "batch_tokens", "usd_per_hour"):
            value = getattr(self, name)
            if value is not None and not 0 < value < inf:
                raise UserError(f"{name.replace('_', ' ')} is {value:g}; it must be a finite number above 0")


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """The answer."""

    ask: TrainingAsk
    chips: int
    tokens: float
    batch_tokens: float
    work: Work
    bill: Bill
    layout: TrainingLayout
    memory: TrainingMemory
    idle: float
    """Share of the time that the pipeline stands still; within the utilisation, which was fitted to real runs."""
    optimum: tuple[float, float]
    """(parameters, tokens) of the least loss at this budget for a dense model, by Chinchilla's law."""
    loss: Interval
    """By the same law, activated parameters counting as dense ones; nats a token on Chinchilla's data."""
    assumptions: tuple[str, ...]


def plan_training(ask: TrainingAsk, law: Utilization | None = None) -> TrainingPlan:
    """The plan of `ask`. InfeasibleError where it does not fit, UserError where a figure of the chip is missing."""
    said = list(ask.shape.assumed)
    tokens = _tokens(ask, said)
    each = work(ask.shape, ask.sequence)
    batch = ask.batch_tokens or _batch(each.flops * tokens, tokens, ask.sequence, said)
    layout, memory = _layout(ask, batch, said)
    case = Case(ask.chip, ask.precision, ask.shape.active, experts=ask.shape.experts > 0, whole_run=True,
                chips=layout.chips)  # fmt: skip
    paid = bill(work(ask.shape, ask.sequence, recomputed=layout.recompute), tokens, case, law or fitted(),
                ask.usd_per_hour)  # fmt: skip
    optimum = laws.EPOCH_REFIT.optimum(6 * ask.shape.active * tokens)
    loss = Interval.within(laws.EPOCH_REFIT.loss(ask.shape.active, tokens), 1.03)
    said.append(_money(ask))
    return TrainingPlan(ask, layout.chips, tokens, batch, each, paid, layout, memory,
                        idle_share(layout, ask.sequence, batch), optimum, loss, tuple(said))  # fmt: skip


def _tokens(ask: TrainingAsk, said: list[str]) -> float:
    if ask.tokens is not None:
        return ask.tokens
    run = known_run(ask.shape.name)
    if run:
        said.append(f"{run.tokens:.3g} tokens, as {run.name} was trained on ({run.source})")
        return run.tokens
    said.append(f"{TOKENS_A_PARAMETER} tokens for each activated parameter")
    return TOKENS_A_PARAMETER * ask.shape.active


def _batch(flops: float, tokens: float, sequence: int, said: list[str]) -> float:
    batch = max(float(sequence), min(laws.batch_tokens(flops), tokens))
    said.append(f"a batch of {batch:,.0f} tokens (DeepSeek LLM, arXiv:2401.02954, eq. 1)")
    return batch


def _layout(ask: TrainingAsk, batch: float, said: list[str]) -> tuple[TrainingLayout, TrainingMemory]:
    """The layout given, the best one on the chips given, or the smallest machine that holds the model."""
    if ask.layout:
        memory = training_memory(ask.shape, ask.chip, ask.layout, ask.sequence)
        if not memory.fits:
            raise InfeasibleError(
                f"{ask.shape.name} does not fit {ask.layout.words}: a chip would hold {memory.total / 1e9:,.0f} GB of "
                f"{memory.available / 1e9:,.0f}; leave the layout out to have one searched"
            )
        return ask.layout, memory
    if ask.chips is not None:
        return best_layout(ask.shape, ask.chip, ask.chips, ask.sequence, batch)
    return _least(ask, batch, said)


def _least(ask: TrainingAsk, batch: float, said: list[str]) -> tuple[TrainingLayout, TrainingMemory]:
    """The least power of two of chips that holds the model."""
    for chips in (1 << power for power in range(MOST_CHIPS.bit_length())):
        with suppress(InfeasibleError):
            found = best_layout(ask.shape, ask.chip, chips, ask.sequence, batch)
            said.append(f"{chips:,} chips, the least power of two that holds the model")
            return found
    raise InfeasibleError(
        f"{ask.shape.name} cannot be trained on {MOST_CHIPS:,} x {ask.chip.name} either; its layers are too large for "
        "the chip's memory"
    )


def _money(ask: TrainingAsk) -> str:
    if ask.usd_per_hour:
        return f"${ask.usd_per_hour:g} a chip-hour, as given"
    if ask.chip.usd_per_hour:
        return f"${ask.chip.usd_per_hour:g} a chip-hour ({ask.chip.price_note})"
    return f"no price of {ask.chip.name} is known: give --usd-per-hour"
