"""What training holds in a chip's memory, and the layout that fits: tensor, pipeline, data and expert parallelism.

Weights and gradients in 16 bits and Adam's state in 32 are 2 + 2 + 12 bytes a parameter (ZeRO, Rajbhandari et al.,
arXiv:1910.02054, section 3.1), the last shared out over data parallelism (its stage 1), or all of them (stage 3).
Activations are 34 s b h bytes of a layer over tensor parallelism, with attention's scores recomputed, or 2 s b h where
each layer is (Korthikanti et al., arXiv:2205.05198, eq. 4 and table 2), for as many layers as a model has, because the
first stage of a pipeline holds that many micro-batches. Not covered: offloading, fragmentation, interleaved schedules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from raison.errors import InfeasibleError, UserError
from raison.plan.chips import Chip
from raison.plan.shape import Shape

WEIGHT, GRADIENT, STATE = 2, 2, 12
"""Bytes a parameter."""
ATTENTION_BYTES, FEED_BYTES = 10, 24
"""Of the 34: what scales with the width alone, and what scales with the products of a layer."""
KEPT_BYTES = 2
"""Bytes of a layer's input, all that full recomputation keeps."""
DENSE_LAYER = 12
"""Parameters of a layer over the square of its width, for which 34 was counted."""
USABLE = 0.92
"""Of the memory; the rest is the driver's, the communication library's and fragments."""
SPLIT, GATHERED, RECOMPUTED = 0.03, 0.5, 1 / 3
"""What ranks layouts: time of each doubling of tensor or expert parallelism, of gathering weights that computing does
not hide (a half), of full recomputation."""
REACHED = 0.4
"""Share of the peak that computing is held against there."""
NETWORK = 50e9
"""Bytes/s of a chip beyond its scale-up domain: one port of 400 Gbit/s."""


@dataclass(frozen=True, slots=True)
class TrainingLayout:
    """How a model is shared out; chips = tp x pp x dp, and experts over `ep` of tp x dp."""

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    stage3: bool = False
    """Weights and gradients are shared out over data parallelism too."""
    recompute: bool = False

    def __post_init__(self) -> None:
        for name in ("tp", "pp", "dp", "ep"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least 1")

    @property
    def chips(self) -> int:
        return self.tp * self.pp * self.dp

    @property
    def words(self) -> str:
        parts = [f"TP{self.tp}", f"PP{self.pp}", f"DP{self.dp}", *([f"EP{self.ep}"] if self.ep > 1 else [])]
        kind = "ZeRO-3" if self.stage3 else "ZeRO-1"
        return f"{' x '.join(parts)}, {kind}{', full recomputation' if self.recompute else ''}"


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes of the fullest chip."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    total: float
    available: float

    @property
    def fits(self) -> bool:
        return self.total <= self.available


def training_memory(shape: Shape, chip: Chip, layout: TrainingLayout, sequence: float) -> TrainingMemory:
    """Bytes of the fullest chip with one sequence of `sequence` tokens a micro-batch."""
    group = layout.tp * layout.pp
    dense = (shape.total - shape.routed) / group
    experts = shape.routed / (layout.ep * layout.pp)
    copies = max(1.0, layout.tp * layout.dp / layout.ep)
    state = STATE * (dense / layout.dp + experts / copies)
    held = dense / layout.dp + experts / copies if layout.stage3 else dense + experts
    gathered = (dense + experts) * layout.pp / shape.layers * WEIGHT if layout.stage3 else 0.0
    active = activations(shape, layout, sequence)
    total = held * (WEIGHT + GRADIENT) + gathered + state + active
    return TrainingMemory(held * WEIGHT + gathered, held * GRADIENT, state, active, total,
                          (chip.mem_gb or inf) * 1e9 * USABLE)  # fmt: skip


def activations(shape: Shape, layout: TrainingLayout, sequence: float) -> float:
    """Bytes of activations on the first stage, and of the logits where there is but one."""
    token = shape.hidden * sequence / layout.tp
    fed = (shape.active - shape.vocabulary * shape.hidden) / shape.layers / (DENSE_LAYER * shape.hidden**2)
    whole = token * (ATTENTION_BYTES + FEED_BYTES * max(fed, 0.5))
    logits = 4 * sequence * shape.vocabulary / layout.tp if layout.pp == 1 else 0.0
    return (KEPT_BYTES * token * shape.layers + whole if layout.recompute else whole * shape.layers) + logits


def layouts(shape: Shape, chip: Chip, chips: int) -> Iterator[TrainingLayout]:
    """All that powers of two, and what is left for data parallelism, can share out on `chips` chips."""
    for tp in _powers(min(chips, max(chip.domain, 1), 64)):
        for pp in _powers(min(chips // tp, shape.layers)):
            if chips % (tp * pp):
                continue
            dp = chips // tp // pp
            eps = [ep for ep in _powers(shape.experts) if tp * dp % ep == 0] if shape.experts else [1]
            for ep in eps:
                for stage3 in (False, True):
                    for recompute in (False, True):
                        yield TrainingLayout(tp, pp, dp, ep, stage3, recompute)


def best_layout(
    shape: Shape, chip: Chip, chips: int, sequence: float, batch_tokens: float
) -> tuple[TrainingLayout, TrainingMemory]:
    """The layout that fits with the least idle time. InfeasibleError, which says how much memory there should be, where
    none does."""
    found = [(layout, training_memory(shape, chip, layout, sequence)) for layout in layouts(shape, chip, chips)]
    fitting = [(layout, memory) for layout, memory in found if memory.fits]
    if not fitting:
        least = min(memory.total for _, memory in found)
        raise InfeasibleError(
            f"{shape.name} cannot be trained on {chips} x {chip.name}: the fullest chip would hold "
            f"{least / 1e9:,.0f} GB at the least and has {(chip.mem_gb or 0) * USABLE:,.0f} to give; "
            "take more chips or larger ones"
        )
    return min(fitting, key=lambda entry: _cost(shape, chip, entry[0], sequence, batch_tokens))


def idle_share(layout: TrainingLayout, sequence: float, batch_tokens: float) -> float:
    """Share of the time that a pipeline stands still: (p - 1) / (m + p - 1), m micro-batches (GPipe, arXiv:1811.06965,
    section 2.3)."""
    micro = max(1.0, batch_tokens / sequence / layout.dp)
    return (layout.pp - 1) / (micro + layout.pp - 1)


def _cost(shape: Shape, chip: Chip, layout: TrainingLayout, sequence: float, batch_tokens: float) -> float:
    """Time over that of an ideal layout; a data parallelism wider than the batch has sequences is out of question."""
    if layout.dp > batch_tokens / sequence:
        return inf
    split = SPLIT * ((layout.tp.bit_length() - 1) + (layout.ep.bit_length() - 1) / 2)
    gathered = GATHERED * _gathering(shape, chip, layout, sequence) if layout.stage3 else 0.0
    busy = 1 + split + gathered + RECOMPUTED * layout.recompute
    return busy / (1 - idle_share(layout, sequence, batch_tokens))


def _gathering(shape: Shape, chip: Chip, layout: TrainingLayout, sequence: float) -> float:
    """Time to gather weights twice and scatter gradients once for one sequence, over the time to compute on it."""
    wide = layout.chips > chip.domain or not chip.link_gbps
    speed = NETWORK if wide else (chip.link_gbps or 0.0) * 1e9
    held = ((shape.total - shape.routed) / layout.tp + shape.routed / layout.ep) / layout.pp
    computing = 6 * shape.active * sequence / (layout.tp * layout.pp) / ((chip.peak("bf16") or 1.0) * 1e12 * REACHED)
    return 3 * WEIGHT * held / speed / computing


def _powers(most: int) -> list[int]:
    return [1 << power for power in range(max(most, 1).bit_length())]
