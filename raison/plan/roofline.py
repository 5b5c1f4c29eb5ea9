"""What a step of decoding and a prompt take: bytes, FLOPs and messages of one chip, and the time that follows.

    time = |memory, arithmetic| + activations + fixed + communication   efficiencies and constants are fitted
    memory: weights outside experts / tp, experts touched (1 - (1 - k/E)^B) / chips, cache of the rank's sequences
    arithmetic: 2 x active parameters and attention over the context (model/cost.py), rows of an expert padded to a tile
    activations: what one product writes and the next one reads, through norms, routing and other kernels between them,
    which nothing overlaps; of models with small experts a large part
    fixed: launches, per layer, and the host's work, per sequence, of which engines hide some (TensorRT-LLM's manual,
    Overlap Scheduler) or little (half of vLLM's time in 2024: mlsys.wuklab.io/posts/scheduling_overhead)
    communication: two all-reduces a layer (ring: 2 (n-1)/n of the bytes), or dispatch and combine of experts
    (DeepSeek-V3 report, section 3.2.2), each with a time per hop

|m, a| = sqrt(m^2 + a^2): operators overlap the two in part, and a layer has some bound by either, so that a step lies
between the larger and the sum (Yuan et al., arXiv:2402.16363, take each operator's maximum). Pure functions, seconds.
Not covered: the choice of a layout, requests that come and go (batching.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import hypot, log2

from raison.plan.chips import Chip
from raison.plan.setup import STATIC, Setup

NETWORK_GBPS = 50.0
"""Between nodes, for each chip in one direction: 400 Gbit/s, as in DeepSeek's and NVIDIA's reference nodes."""
BUS_GBPS = 32.0
"""Between chips of which no source tells a link, in one direction: PCIe 4.0 with 16 lanes, less its coding (31.5)."""
NODES, DIRECT = 4, 1 << 10
"""Nodes that a token is routed to at most (V3 report, section 2.1.2): prefill sends it to each once, a decoding step,
whose latency counts, to every expert on its own."""
TILE = 64
"""Rows that a grouped product computes at least for each expert that it touches, on chips with units for tiles."""
ROWS = 512
"""Rows at which a step's products are half way to the share of the peak that a prompt's reach: an assumption, four
tiles of 128, which kernels for many rows compute at once."""
PASSED = 2
"""Bytes of a number that passes from one product to another."""
TILED = ("gpu", "consumer", "tpu")
"""Kinds of chips with such units."""


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds of a step or a prompt, by what they go to."""

    memory: float
    arithmetic: float
    activations: float
    fixed: float
    communication: float

    @property
    def total(self) -> float:
        return hypot(self.memory, self.arithmetic) + self.activations + self.fixed + self.communication

    @property
    def bound(self) -> str:
        """The part that takes most."""
        parts = {"memory": self.memory, "arithmetic": self.arithmetic, "activations": self.activations,
                 "fixed time": self.fixed, "communication": self.communication}  # fmt: skip
        return max(parts, key=lambda name: parts[name])

    def times(self, factor: float) -> Time:
        return Time(*(getattr(self, name) * factor for name in self.__slots__))

    def plus(self, other: Time) -> Time:
        return Time(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


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
        activations=_activations(setup, tokens),
        fixed=(setup.shape.layers / stages * c.layer_us + micro / setup.layout.dp * c.host_us) * 1e-6,
        communication=_reduced(setup, tokens) + _dispatched(setup, tokens, DIRECT) + _hops(setup),
    ).times(stages)


def prefill_time(setup: Setup, prompt: float, known: float = 0.0, prompts: float = 1.0) -> Time:
    """`prompts` prompts of `prompt` tokens at once on the instance alone; the cache knows a share `known` of each. The
    messages to experts pass while another half of the prompts is computed (DeepSeek-V3 report, section 3.4.1)."""
    shape, layout, c = setup.shape, setup.layout, setup.constants
    tokens = prompts * prompt * (1 - known)
    if not tokens:
        return Time(0.0, 0.0, 0.0, 0.0, 0.0)
    attention = tokens * shape.prompt_attention(prompt, known)
    arithmetic = setup.seconds(tokens, 0.0, attention) / layout.chips / c.prefill
    return Time(
        memory=weight_bytes_read(setup, tokens) * layout.pp / setup.bandwidth / c.memory,
        arithmetic=hypot(arithmetic, _dispatched(setup, tokens, NODES)),
        activations=_activations(setup, tokens),
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


def _activations(setup: Setup, tokens: float) -> float:
    """Seconds in which a stage of the model writes and reads what `tokens` tokens over all ranks pass from product to
    product. Processors compute a layer in pieces that stay in caches, and machines laid out for a model on the chip."""
    if setup.chip.kind not in TILED:
        return 0.0
    shape, layout = setup.shape, setup.layout
    numbers = shape.passed_shared / layout.stage + shape.passed_whole / layout.dp
    return 2 * PASSED * tokens * numbers / layout.pp / setup.bandwidth / setup.constants.memory


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
    inside = chip.link_gbps or BUS_GBPS
    return (inside if chips <= chip.domain else min(NETWORK_GBPS, inside)) * 1e9
