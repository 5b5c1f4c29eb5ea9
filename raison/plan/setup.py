"""Whose time it is that the roofline tells: a model on chips in a layout, and what software makes of a chip.

Not covered: times (roofline.py), which layouts there are (layouts.py), where constants come from (calibration.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from raison.errors import UserError
from raison.plan.chips import Chip
from raison.plan.precision import Width
from raison.plan.shape import Shape

STATIC = ("rdu", "sram")
"""Kinds of machines that are laid out anew for each model, so that they share out a cache by tokens, not by heads."""
INTENSITY = 100.0
"""FLOPs of a chip for each byte that its memory delivers, where only the latter is known: an assumption between
processors (2 to 30 in figures/chips.csv, matrix units apart) and accelerators (100 to 500)."""


@dataclass(frozen=True, slots=True)
class Constants:
    """What software makes of a chip. Shares are of the data sheet's peak."""

    memory: float = 0.75
    """Share of the bandwidth."""
    decode: float = 0.4
    """Share of the peak in products of a step of few rows."""
    prefill: float = 0.45
    """Share of the peak in a prompt's products."""
    layer_us: float = 40.0
    """Fixed time of a layer in a step, microseconds."""
    hop_us: float = 8.0
    """Added to a layer for each doubling of the chips that share it, and twice where experts are on other ranks."""
    link: float = 0.5
    """Share of the link's rate in messages."""
    first_ms: float = 30.0
    """Fixed time before the first token, milliseconds."""
    queue: float = 0.08
    """Share of the other streams' prompts that a prompt waits for, in a closed loop."""
    spread: float = 1.0
    """B tokens touch as many experts as B^spread independent ones: below 1 where streams resemble each other."""
    narrow: float = 1.0
    """Power of what products narrower than 16 bits gain by the data sheet: below 1 where software has less of it."""
    host_us: float = 0.0
    """Time of the host for each sequence of a step: its schedule, sampling, stop conditions, text. Microseconds."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a model is spread. Chips of one instance: tp x dp x pp."""

    tp: int = 1
    """Chips that share out every layer."""
    pp: int = 1
    """Stages, each with its share of the layers."""
    dp: int = 1
    """Ranks that hold attention whole and share out the experts (data-parallel attention)."""
    ep: bool = False
    """Whether whole experts are shared out, or slices of each."""

    @property
    def chips(self) -> int:
        return self.tp * self.pp * self.dp

    @property
    def stage(self) -> int:
        """Chips that share out a layer's experts."""
        return self.tp * self.dp

    @property
    def words(self) -> str:
        """TP8, or TP4 PP2 DP2 EP8."""
        parts = [f"TP{self.tp}"] + [f"{name}{n}" for name, n in (("PP", self.pp), ("DP", self.dp)) if n > 1]
        return " ".join([*parts, f"EP{self.stage}"] if self.ep else parts)


@dataclass(frozen=True, slots=True)
class Setup:
    """Whose time it is: model, chip, width, layout, constants."""

    shape: Shape
    chip: Chip
    width: Width
    layout: Layout
    constants: Constants

    @property
    def bandwidth(self) -> float:
        """Bytes/s of one chip. UserError where no source gives it."""
        if not self.chip.mem_gbps:
            raise UserError(f"no bandwidth is known of {self.chip.name}; set mem_gbps in a chips.csv of your own")
        return self.chip.mem_gbps * 1e9

    def peak(self, products: str) -> float:
        """FLOP/s of one chip in such products; INTENSITY for each byte where no source was read."""
        known, wide = self.chip.peak(products), self.chip.peak("bf16")
        if known is None:
            return INTENSITY * self.bandwidth
        return 1e12 * (wide * (known / wide) ** self.constants.narrow if wide else known)

    def seconds(self, tokens: float, padding: float, attention: float) -> float:
        """One chip's time at its peaks for `tokens` tokens with `padding` FLOPs more in experts and `attention` FLOPs
        over the cache."""
        shape, width = self.shape, self.width
        chosen = shape.routed * shape.experts_per_token / shape.experts if shape.experts else 0.0
        inner = chosen or shape.active
        inside = (2 * tokens * inner + padding) / self.peak(width.products)
        outside = 2 * tokens * (shape.active - inner) / self.peak(width.outer)
        return inside + outside + attention / self.peak(width.attention)
