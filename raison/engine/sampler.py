"""From logits to tokens: temperature, top-k, top-p, min-p, and noise that a request owns.

The noise of token t is a hash of (seed, t) alone: splitmix64, keyed with the mixed seed, gives 53 bits and one
uniform number in [0, 1), which is looked up in the distribution's cumulative sum in float64, in the order of the
vocabulary. What else is in the batch, and how often a sequence was interrupted, changes nothing. Log-probabilities
are of the whole distribution at the sampling temperature, before the filters, in fp32: what a trainer computes from
the same weights. Not covered: beams, repetition penalties.

Legend: N rows, Y vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raison.engine.constraint import Constraint, constrained
from raison.engine.device import CPU, handed
from raison.engine.kernels import native
from raison.engine.sequence import GOLDEN
from raison.engine.slots import Ints, Slots
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
    """One token for each place, from its line, and its log-probability. Native code draws where no filter is asked
    for, and lines stand on the CPU.

    `constraints` are by index into `places`.
    """
    asked, rows = constraints or {}, places.rows
    filtered = slots.filtered(rows)
    compiled = native.library().handle is not None and lines_LY.device == CPU
    if compiled and not asked and not filtered.any():
        return _native(lines_LY, vocabulary, slots, places, of_sample)
    plain = ~filtered
    plain[list(asked)] = False
    tokens, logprobs = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.float32)
    native_rows = np.flatnonzero(plain) if compiled else np.zeros(0, np.int64)
    others = np.setdiff1d(np.arange(len(rows)), native_rows)
    if len(native_rows):
        lines = np.ascontiguousarray(of_sample[native_rows])
        drawn = _native(lines_LY, vocabulary, slots, places[native_rows], lines)
        tokens[native_rows], logprobs[native_rows] = drawn
    if len(others):
        lines_NY = lines_LY[handed(of_sample[others], lines_LY.device), :vocabulary]
        of_others = {i: asked[int(row)] for i, row in enumerate(others) if int(row) in asked}
        both = draw(lines_NY, slots, places[others], filtered[others], of_others).cpu().numpy()
        if np.isnan(both).any():
            raise NumericalError(NOT_FINITE)
        tokens[others], logprobs[others] = both
    return tokens, logprobs


def _native(
    lines_LY: Tensor, vocabulary: int, slots: Slots, places: Places, lines: Ints
) -> tuple[Ints, NDArray[np.float32]]:
    temperatures = slots.temperature[places.rows]
    tokens, logprobs, failed = native.draw(lines_LY, vocabulary, lines, temperatures, places.uniforms(slots))
    if failed:
        raise NumericalError(NOT_FINITE)
    return tokens, logprobs


def draw(
    logits_NY: Tensor,
    slots: Slots,
    places: Places,
    filtered: NDArray[np.bool_],
    constraints: Mapping[int, Constraint],
) -> Tensor:
    """Tokens and their log-probabilities, [2, N] in float64, on the logits' device: all that the host asks of it."""
    rows, device = places.rows, logits_NY.device
    temperature = slots.temperature[rows]
    greedy = temperature == 0
    divisor_N = np.where(greedy, np.float32(1), temperature)
    logits_NY = scaled(logits_NY, temperature)
    probs_NY = logits_NY.softmax(-1)
    allowed_NY = constrained(logits_NY, constraints, handed(divisor_N, device)) if constraints else logits_NY
    kept_NY = _filter(allowed_NY.softmax(-1) if constraints else probs_NY, slots, rows, np.flatnonzero(filtered))
    tokens_N = look_up(kept_NY, handed(places.uniforms(slots), device)).clamp_(max=logits_NY.shape[1] - 1)
    if greedy.any():
        tokens_N = torch.where(handed(greedy, device), allowed_NY.argmax(-1), tokens_N)
    logprobs_N = probs_NY.gather(1, tokens_N.unsqueeze(1)).squeeze(1).log()
    return torch.stack((tokens_N.double(), logprobs_N.double()))


def likeliest(line_Y: Tensor, temperature: float, count: int) -> tuple[tuple[int, float], ...]:
    """The `count` likeliest ids of a line and their log-probabilities, as `sample` tells them of what it draws."""
    found = (line_Y / (temperature or 1.0)).log_softmax(-1).topk(min(count, len(line_Y)))
    return tuple(zip(found.indices.tolist(), found.values.tolist(), strict=True))


def scaled(logits_NY: Tensor, temperature_N: NDArray[np.float32]) -> Tensor:
    """Logits at their rows' temperatures, which is 1 where it is 0."""
    if (temperature_N == 1).all():
        return logits_NY
    divisor_N = np.where(temperature_N == 0, np.float32(1), temperature_N)
    return logits_NY / handed(divisor_N, logits_NY.device).unsqueeze(1)


def look_up(weights_NY: Tensor, uniform_N: Tensor) -> Tensor:
    """Inverse of the cumulative distribution, in float64. Weights need not sum to 1; weight 0 is never drawn."""
    cumulative_NY = weights_NY.cumsum(-1, dtype=torch.float64)
    total_N1 = cumulative_NY[:, -1:]
    target_N1 = torch.minimum(uniform_N.unsqueeze(1) * total_N1, torch.nextafter(total_N1, torch.zeros_like(total_N1)))
    return torch.searchsorted(cumulative_NY, target_N1, right=True).squeeze(1)


def _filter(probs_NY: Tensor, slots: Slots, rows: Ints, asked: Ints) -> Tensor:
    if not len(asked):
        return probs_NY
    every = slots.top_k[rows], slots.top_p[rows], slots.min_p[rows]
    limits = (handed(values[asked], probs_NY.device).unsqueeze(1) for values in every)
    chosen = handed(asked, probs_NY.device)
    return probs_NY.index_copy(0, chosen, filter_probs(probs_NY[chosen], *limits))


def filter_probs(probs_NY: Tensor, top_k_N1: Tensor, top_p_N1: Tensor, min_p_N1: Tensor) -> Tensor:
    """Zero what the filters reject, without renormalising; equal probabilities rank in the vocabulary's order.

    top-k keeps the k likeliest (0: all); top-p the fewest of those whose share of them reaches p (Holtzman et al.
    2020); min-p those of at least p times the likeliest (Nguyen et al. 2024). The likeliest token always stays.
    """
    sorted_NY, order_NY = probs_NY.sort(dim=-1, descending=True, stable=True)
    rank_Y = torch.arange(probs_NY.shape[-1], device=probs_NY.device)
    keep_NY = (rank_Y < top_k_N1) | (top_k_N1 == 0)
    among_NY = (sorted_NY * keep_NY).double()
    before_NY = among_NY.cumsum(-1) - among_NY
    keep_NY &= (before_NY < top_p_N1 * among_NY.sum(-1, keepdim=True)) | (top_p_N1 >= 1)
    keep_NY &= sorted_NY >= min_p_N1 * sorted_NY[:, :1]
    keep_NY[:, 0] = True
    return torch.zeros_like(probs_NY).scatter_(1, order_NY, sorted_NY * keep_NY)
