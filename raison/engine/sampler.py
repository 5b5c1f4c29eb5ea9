"""From logits to tokens: temperature, top-k, top-p, min-p, and noise that a request owns.

The noise of token t is a hash of (seed, t) alone: splitmix64, keyed with the mixed seed, gives 53 bits and one
uniform number in [0, 1), which is looked up in the distribution's cumulative sum in float64, in the order of the
vocabulary. Native code draws where it can (kernels/sample.hpp, filters.hpp); this is its reference. What else is in the
batch, and how often a sequence was interrupted, changes nothing. Log-probabilities are of the whole distribution at the
sampling temperature, before the filters, in fp32: what a trainer computes from the same weights. Not covered: beams,
repetition penalties.

Legend: N rows, Y vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raison.engine.constraint import Constraint, constrained
from raison.engine.device import CPU, handed
from raison.engine.kernels import native
from raison.engine.sequence import GOLDEN
from raison.engine.slots import Ints, Records, Slots
from raison.errors import NumericalError

NOT_FINITE = "the model's weights give logits that are not finite; load an earlier state of it"


def uniforms(keys: NDArray[np.uint64], counters: Ints) -> NDArray[np.float64]:
    """splitmix64 as a counter-based generator: number `counters` of each key's stream, in [0, 1). The two broadcast."""
    z = keys + (counters.astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    unit: NDArray[np.float64] = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return unit


@dataclass(frozen=True, slots=True)
class Places:
    """Slots that get a token, and how many tokens stand between what they know and it: 0 but for drafts."""

    rows: Ints
    ahead: Ints

    def uniforms(self, slots: Slots) -> NDArray[np.float64]:
        at = slots.length[self.rows] + self.ahead - slots.prompt_length[self.rows]
        return uniforms(slots.key[self.rows], at)

    def __getitem__(self, which: Ints) -> Places:
        return Places(self.rows[which], self.ahead[which])


def sample(
    lines_LY: Tensor,
    of_sample: Ints,
    vocabulary: int,
    slots: Slots,
    places: Places,
    constraints: Mapping[int, Constraint] | None = None,
) -> tuple[Ints, NDArray[np.float32]]:
    """One token for each place, from its line, and its log-probability. Native code draws where no grammar is asked
    for, and lines stand on the CPU.

    `constraints` are by index into `places`.
    """
    asked = constraints or {}
    by_twin = np.full(len(places.rows), native.library().handle is None or lines_LY.device != CPU)
    by_twin[[i for i, constraint in asked.items() if constraint.allowed is not None]] = True
    tokens, logprobs = np.zeros(len(by_twin), np.int64), np.zeros(len(by_twin), np.float32)
    for which, way in (((~by_twin).nonzero()[0], _native), (by_twin.nonzero()[0], _twin)):
        if len(which):
            own = {i: asked[at] for i, at in enumerate(which.tolist()) if at in asked} if asked else {}
            tokens[which], logprobs[which] = way(lines_LY, of_sample[which], vocabulary, slots, places[which], own)
    if np.isnan(logprobs).any():
        raise NumericalError(NOT_FINITE)
    return tokens, logprobs


Sampled = tuple[NDArray[np.number[Any]], NDArray[np.floating[Any]]]
"""Tokens and their log-probabilities, NaN where logits are not finite."""


def _native(
    lines_LY: Tensor,
    lines_N: Ints,
    vocabulary: int,
    slots: Slots,
    places: Places,
    constraints: Mapping[int, Constraint],
) -> Sampled:
    biases = native.Biases.of(len(lines_N), {i: c.biases for i, c in constraints.items() if c.biases})
    asks = native.Asks(
        lines_N, slots.temperature[places.rows], places.uniforms(slots), slots.limits[places.rows], biases
    )
    return native.draw(lines_LY, vocabulary, asks)


def _twin(
    lines_LY: Tensor,
    lines_N: Ints,
    vocabulary: int,
    slots: Slots,
    places: Places,
    constraints: Mapping[int, Constraint],
) -> Sampled:
    lines_NY = lines_LY[handed(lines_N, lines_LY.device), :vocabulary]
    tokens_N, logprobs_N = draw(lines_NY, slots, places, constraints).cpu().numpy()
    return tokens_N, logprobs_N


def draw(logits_NY: Tensor, slots: Slots, places: Places, constraints: Mapping[int, Constraint]) -> Tensor:
    """Tokens and their log-probabilities, [2, N] in float64, on the logits' device: all that the host asks of it."""
    temperature_N, limits_N = slots.temperature[places.rows], slots.limits[places.rows]
    allowed_NY = constrained(logits_NY, constraints) if constraints else logits_NY
    kept_NY = weights_kept(allowed_NY, temperature_N, limits_N)
    tokens_N = look_up(kept_NY, handed(places.uniforms(slots), logits_NY.device)).clamp_(max=logits_NY.shape[1] - 1)
    greedy_N = temperature_N == 0
    if greedy_N.any():
        tokens_N = torch.where(handed(greedy_N, logits_NY.device), allowed_NY.argmax(-1), tokens_N)
    logprobs_NY = scaled(logits_NY, temperature_N).log_softmax(-1)
    return torch.stack((tokens_N.double(), logprobs_NY.gather(1, tokens_N.unsqueeze(1)).squeeze(1).double()))


def likeliest(line_Y: Tensor, temperature: float, count: int) -> tuple[tuple[int, float], ...]:
    """The `count` likeliest ids of a line and their log-probabilities, as `sample` tells them of what it draws."""
    (line_Y,) = scaled(line_Y.unsqueeze(0), np.full(1, temperature, np.float32))
    found = line_Y.log_softmax(-1).topk(min(count, len(line_Y)))
    return tuple(zip(found.indices.tolist(), found.values.tolist(), strict=True))


def scaled(logits_NY: Tensor, temperature_N: NDArray[np.float32]) -> Tensor:
    """How far logits are below their row's highest, in nats at its temperature; a temperature of 0 is taken for 1.

    The highest is taken off first: at tiny temperatures the quotients themselves would round away what differs.
    """
    divisor_N = np.where(temperature_N == 0, np.float32(1), temperature_N)
    return (logits_NY - logits_NY.amax(-1, keepdim=True)) / handed(divisor_N, logits_NY.device).unsqueeze(1)


def look_up(weights_NY: Tensor, uniform_N: Tensor) -> Tensor:
    """Inverse of the cumulative distribution, in float64. Weights need not sum to 1; weight 0 is never drawn."""
    cumulative_NY = weights_NY.cumsum(-1, dtype=torch.float64)
    total_N1 = cumulative_NY[:, -1:]
    target_N1 = torch.minimum(uniform_N.unsqueeze(1) * total_N1, torch.nextafter(total_N1, torch.zeros_like(total_N1)))
    return torch.searchsorted(cumulative_NY, target_N1, right=True).squeeze(1)


def weights_kept(logits_NY: Tensor, temperature_N: NDArray[np.float32], limits_N: Records) -> Tensor:
    """What tokens weigh at their rows' temperatures; 0 where the filters reject them. The likeliest weighs 1."""
    weights_NY = scaled(logits_NY, temperature_N).exp()
    asked = (limits_N["top_k"] > 0) | (limits_N["top_p"] < 1) | (limits_N["min_p"] > 0)
    if not asked.any():
        return weights_NY
    names = ("top_k", "top_p", "min_p")
    limits = (handed(limits_N[name][asked], weights_NY.device).unsqueeze(1) for name in names)
    rows = handed(asked.nonzero()[0], weights_NY.device)
    return weights_NY.index_copy(0, rows, filtered(logits_NY[rows], weights_NY[rows], *limits))


def filtered(logits_NY: Tensor, weights_NY: Tensor, top_k_N1: Tensor, top_p_N1: Tensor, min_p_N1: Tensor) -> Tensor:
    """Zero the weights that the filters reject. Tokens rank by logit, equal ones in the vocabulary's order.

    top-k keeps the k likeliest (0: all); top-p the fewest of those whose share of them reaches p (Holtzman et al.
    2020); min-p those of at least p times the likeliest (Nguyen et al. 2024). The likeliest token always stays.
    """
    order_NY = logits_NY.argsort(dim=-1, descending=True, stable=True)
    sorted_NY = weights_NY.gather(1, order_NY)
    rank_Y = torch.arange(logits_NY.shape[-1], device=logits_NY.device)
    keep_NY = (rank_Y < top_k_N1) | (top_k_N1 == 0)
    among_NY = (sorted_NY * keep_NY).double()
    before_NY = among_NY.cumsum(-1) - among_NY
    keep_NY &= (before_NY < top_p_N1 * among_NY.sum(-1, keepdim=True)) | (top_p_N1 >= 1)
    keep_NY &= sorted_NY >= min_p_N1 * sorted_NY[:, :1]
    keep_NY[:, 0] = True
    return torch.zeros_like(weights_NY).scatter_(1, order_NY, sorted_NY * keep_NY)
