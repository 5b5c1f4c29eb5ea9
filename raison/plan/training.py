"""Training a model on tokens: FLOPs, chip-hours, money, energy. Pure functions of a shape, a chip and a utilisation.

FLOPs come from model/cost.py by way of models.Shape: forward and backward of the products, and causal attention over
half of the sequence in the mean. Time counts attention's FLOPs more than once (utilization.ATTENTION). A teacher whose
logits are computed along costs forward passes. Not covered: memory and layouts (training_memory.py), reinforcement
learning (rl.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from raison.errors import UserError
from raison.model.cost import BACKWARD
from raison.plan import energy
from raison.plan.chips import Chip
from raison.plan.interval import Interval
from raison.plan.shape import Shape
from raison.plan.utilization import ATTENTION, Case, Utilization

RECOMPUTED = (2 + BACKWARD) / (1 + BACKWARD)
"""FLOPs where all activations are computed a second time (Korthikanti et al., arXiv:2205.05198)."""
TEACHER = 0.19
"""Chip time of a FLOP of a teacher's forward pass over one of training, from the hours of Llama 3.2 1B (0.20) and 3B
(0.18) with the logits of an 8B and a 70B: two runs of one source. Eight bits and no gradients make it faster."""
PRICE_SPREAD = 1.3
"""Prices of one chip by one date, owned or rented (SemiAnalysis TCO by way of InferenceX, 2026-04)."""


@dataclass(frozen=True, slots=True)
class Work:
    """FLOPs a token, forward and backward."""

    products: float
    attention: float

    @property
    def flops(self) -> float:
        """What reports count: DeepSeek-V3's 250e9 at 4,096 tokens."""
        return self.products + self.attention

    @property
    def timed(self) -> float:
        """FLOPs of products that take as long."""
        return self.products + ATTENTION * self.attention


def work(shape: Shape, sequence: float, *, frozen: bool = False, recomputed: bool = False) -> Work:
    """FLOPs to train on one token of sequences of `sequence` tokens.

    Args:
        frozen: only adapters are trained: gradients pass through the weights.
        recomputed: all activations are computed a second time.
    """
    passes = (BACKWARD if frozen else 1 + BACKWARD) * (RECOMPUTED if recomputed else 1.0)
    return Work(products=passes * 2 * shape.active, attention=passes * shape.prefill_flops * sequence / 2)


def forward(shape: Shape, sequence: float) -> Work:
    """FLOPs to read one token without gradients: a reference, an old policy, a teacher."""
    return Work(products=2 * shape.active, attention=shape.prefill_flops * sequence / 2)


def full_speed_seconds(work: Work, tokens: float, case: Case) -> float:
    """Chip-seconds at the whole 16-bit peak; to be divided by the utilisation."""
    return work.timed * tokens / case.peak


@dataclass(frozen=True, slots=True)
class Bill:
    """What training costs."""

    flops: float
    utilization: Interval
    """Share of the dense 16-bit peak."""
    chip_hours: Interval
    usd: Interval | None
    """None where no price of the chip is known."""
    kwh: Interval | None
    """None where no power of the chip is known."""
    days: Interval | None
    """None where the number of chips is open."""


def bill(work: Work, tokens: float, case: Case, law: Utilization, usd_per_hour: float | None = None) -> Bill:
    """The bill of `tokens` tokens at `work` FLOPs each. UserError where they are not above 0."""
    if tokens <= 0:
        raise UserError(f"there are {tokens:g} tokens to train on; give a number above 0")
    share = law.predict(case)
    hours = full_speed_seconds(work, tokens, case) / 3600 / share
    return priced(work.flops * tokens, share, hours, case.chip, case.chips, usd_per_hour)


def priced(
    flops: float, share: Interval, hours: Interval, chip: Chip, chips: float | None, usd_per_hour: float | None
) -> Bill:
    """Chip-hours as money, energy and days; `usd_per_hour` given is exact, the catalogue's is within PRICE_SPREAD."""
    if usd_per_hour is not None and not 0 < usd_per_hour < inf:
        raise UserError(f"--usd-per-hour is {usd_per_hour:g}; it must be above 0")
    price = Interval.exact(usd_per_hour) if usd_per_hour else catalogue_price(chip)
    power = energy.kilowatts(chip)
    return Bill(
        flops=flops,
        utilization=share,
        chip_hours=hours,
        usd=hours * price if price else None,
        kwh=hours * power if power else None,
        days=hours / (24 * chips) if chips else None,
    )


def catalogue_price(chip: Chip) -> Interval | None:
    """Dollars an hour of a chip, by the catalogue and its date."""
    return Interval.within(chip.usd_per_hour, PRICE_SPREAD) if chip.usd_per_hour else None
