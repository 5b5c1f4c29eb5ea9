"""What a step of decoding and a prompt take: bytes, FLOPs and messages of one chip, and the time that follows.

    time = |memory, arithmetic| + fixed + communication       each with an efficiency or a constant that was fitted
    memory: weights outside experts / tp, experts touched (1 - (1 - k/E)^B) / chips, cache of the rank's sequences
    arithmetic: 2 x active parameters and attention over the context (model/cost.py), rows of an expert padded to a tile
    fixed: launches, per layer; communication: two all-reduces a layer (ring: 2 (n-1)/n of the bytes), or dispatch and
    combine of experts (DeepSeek-V3 report, section 3.2.2), each with a time per hop

|m, a| = sqrt(m^2 + a^2): operators overlap the two in part, and a layer has some bound by either, so that a step lies
between the larger and the sum (Yuan et al., arXiv:2402.16363, take each operator's maximum). Pure functions, seconds.
Not covered: the choice of a layout, requests that come and go (batching.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import hypot, log2

from raison.plan.chips import Chip
from raison.plan.models import Shape
from raison.plan.precision import Width

NETWORK_GBPS = 50.0
"""Between nodes, for each chip in one direction: 400 Gbit/s, as in DeepSeek's and NVIDIA's reference nodes."""
NODES, DIRECT = 4, 1 << 10
"""Nodes that a token is routed to at most (V3 report, section 2.1.2): prefill sends it to each once, a decoding step,
whose latency counts, to every expert on its own."""
TILE = 64
"""Rows that a grouped product computes at least for each expert that it touches, on chips with units for tiles."""
ROWS = 512
"""Rows at which a step's products are half way to the share of the peak that a prompt's reach: an assumption, four
tiles of 128, which kernels for many rows compute at once."""
STATIC = ("rdu", "sram")
INTENSITY = 100.0
"""FLOPs of a chip for each byte that its memory delivers, where only the latter is known."""
TILED = ("gpu", "consumer", "tpu")


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
class Time:
    """Seconds of a step or a prompt, by what they go to."""

    memory: float
    arithmetic: float
    fixed: float
    communication: float

    @property
    def total(self) -> float:
        return hypot(self.memory, self.arithmetic) + self.fixed + self.communication

    @property
    def bound(self) -> str:
        """The part that takes most."""
        parts = {"memory": self.memory, "arithmetic": self.arithmetic, "fixed time": self.fixed,
                 "communication": self.communication}  # fmt: skip
        return max(parts, key=lambda name: parts[name])

    def times(self, factor: float) -> Time:
        return Time(*(getattr(self, name) * factor for name in self.__slots__))

    def plus(self, other: Time) -> Time:
        return Time(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


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
        """Bytes/s of one chip."""
        return (self.chip.mem_gbps or 1.0) * 1e9

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
        inner, outer = (chosen, width.outer) if chosen else (shape.active, width.products)
        rest = 2 * tokens * (shape.active - inner) / self.peak(outer) if chosen else 0.0
        return (
            (2 * tokens * inner + padding) / self.peak(width.products) + rest + attention / self.peak(width.attention)
        )


def weight_bytes_read(setup: Setup, tokens: float) -> float:
    """Bytes of weights that one chip reads in a step of `tokens` tokens over all ranks."""
    shape, width, layout = setup.shape, setup.width, setup.layout
    fixed = width.fixed_bytes(shape) / (layout.tp * layout.pp)
    return fixed + shape.routed * width.weight * _touched(setup, tokens) / (layout.stage * layout.pp)


def _touched(setup: Setup, tokens: float) -> float:
    return setup.shape.touched(tokens**setup.constants.spread if tokens > 1 else tokens)


def cache_bytes(setup: Setup, sequences: float, context: float) -> float:
    """Bytes of cache that one chip holds for `sequences` over all ranks: tp shares out heads, not a latent; a machine
    that is laid out anew for each model (STATIC) shares out tokens."""
    shape, layout = setup.shape, setup.layout
    heads = layout.tp if setup.chip.kind in STATIC else min(layout.tp, shape.cache_shards)
    shared = heads * layout.pp * layout.dp
    return sequences * shape.cache_of(context) * setup.width.cache / shared


def step_time(setup: Setup, batch: float, context: float, guesses: float = 0.0) -> Time:
    """One decoding step of `batch` sequences over the instance, `context` tokens in the cache of each; with stages,
    the time that a token needs through all of them while each stage has a share of the batch. `guesses` tokens more of
    each sequence are checked in the same step."""
    stages, c = setup.layout.pp, setup.constants
    micro = max(1.0, batch / stages)
    tokens = micro * (1 + guesses)
    bytes_read = weight_bytes_read(setup, tokens) + cache_bytes(setup, micro, context)
    return Time(
        memory=bytes_read / setup.bandwidth / c.memory,
        arithmetic=_arithmetic(setup, tokens, context) / setup.layout.stage / stages / _share(setup, tokens),
        fixed=setup.shape.layers / stages * c.layer_us * 1e-6,
        communication=_reduced(setup, tokens) + _dispatched(setup, tokens, DIRECT) + _hops(setup),
    ).times(stages)


def prefill_time(setup: Setup, prompt: float, known: float = 0.0, prompts: float = 1.0) -> Time:
    """`prompts` prompts of `prompt` tokens at once on the instance alone; the cache knows a share `known` of each. The
    messages to experts pass while another half of the prompts is computed (DeepSeek-V3 report, section 3.4.1)."""
    shape, layout, c = setup.shape, setup.layout, setup.constants
    tokens = prompts * prompt * (1 - known)
    if not tokens:
        return Time(0.0, 0.0, 0.0, 0.0)
    attention = tokens * shape.prompt_attention(prompt, known)
    arithmetic = setup.seconds(tokens, 0.0, attention) / layout.chips / c.prefill
    return Time(
        memory=weight_bytes_read(setup, tokens) * layout.pp / setup.bandwidth / c.memory,
        arithmetic=hypot(arithmetic, _dispatched(setup, tokens, NODES)),
        fixed=0.0,
        communication=_reduced(setup, tokens),
    )


def riding_time(setup: Setup, prompt: float, known: float, prompts: float, beside: float) -> Time:
    """What prompts add to a step of `beside` sequences that carries `prompts` of them in the mean. Weights are read
    once for both, so that only experts which the step has not touched are read on top."""
    alone = prefill_time(setup, prompt, known).times(prompts)
    tokens = max(1.0, prompts) * prompt * (1 - known)
    more = weight_bytes_read(setup, beside + tokens) - weight_bytes_read(setup, beside)
    seconds = min(1.0, prompts) * more * setup.layout.pp / setup.bandwidth / setup.constants.memory
    return replace(alone, memory=seconds)


def _arithmetic(setup: Setup, tokens: float, context: float) -> float:
    """Seconds of one chip for a step's products; rows of a touched expert are padded by half a tile in the mean."""
    shape = setup.shape
    padded = _touched(setup, tokens) * shape.routed * TILE if setup.chip.kind in TILED else 0.0
    return setup.seconds(tokens, padded, tokens * shape.decode_attention(context))


def _share(setup: Setup, tokens: float) -> float:
    """Share of the peak in a step's products: between that of few rows and that of a prompt, as rows of a matrix
    become many. Experts see few each."""
    shape, c = setup.shape, setup.constants
    rows = tokens * shape.experts_per_token / shape.experts if shape.experts else tokens
    return c.decode + max(0.0, c.prefill - c.decode) * rows / (rows + ROWS)


def _reduced(setup: Setup, tokens: float) -> float:
    """Seconds of all-reduces of a stage's layers over the chips that share a layer out."""
    layout = setup.layout
    sent = 2 * 2 * (layout.tp - 1) / layout.tp * tokens / layout.dp * setup.shape.hidden * 2
    return sent * setup.shape.layers / layout.pp / (_link(setup.chip, layout.tp) * setup.constants.link)


def _dispatched(setup: Setup, tokens: float, copies: int) -> float:
    """Seconds of sending tokens to experts in 8 bits and back in 16, over all layers of a stage. DeepEP reaches the
    links' rate. `copies` bounds how often a token crosses the network: once for each node that it is routed to."""
    shape, layout = setup.shape, setup.layout
    if layout.dp == 1 or not shape.experts:
        return 0.0
    often = shape.experts_per_token if layout.stage <= setup.chip.domain else min(shape.experts_per_token, copies)
    sent = 3.0 * often * shape.hidden * tokens / layout.stage * (layout.stage - 1) / layout.stage
    return sent * shape.layers / layout.pp / _link(setup.chip, layout.stage)


def _hops(setup: Setup) -> float:
    """Seconds of latency in messages: for each doubling of the chips that reduce together, and twice where tokens go to
    experts on other ranks and back, which all send at once."""
    layout = setup.layout
    away = 2.0 if layout.dp > 1 and setup.shape.experts else 0.0
    return setup.shape.layers / layout.pp * setup.constants.hop_us * 1e-6 * (log2(layout.tp) + away)


def _link(chip: Chip, chips: int) -> float:
    """Bytes/s between chips in one direction: of the scale-up domain, or of the network beyond it."""
    inside = chip.link_gbps or 32.0
    return (inside if chips <= chip.domain else min(NETWORK_GBPS, inside)) * 1e9
