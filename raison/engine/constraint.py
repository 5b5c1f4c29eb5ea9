"""What a request wants of its tokens beside the filters: biases, minimums, and what its grammar allows.

A constraint changes what is drawn, never the log-probabilities that are told: those stay the model's own. Where a
grammar has begun it alone decides when the answer may end. Not covered: top-k, top-p and min-p (sampler.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from raison.engine.device import handed
from raison.engine.grammar import Mask
from raison.engine.sequence import SamplingParams


@dataclass(frozen=True, slots=True)
class Constraint:
    """Of one place: ids that a grammar allows (None = all), and what is added to logits; -inf is never drawn."""

    allowed: Mask | None = None
    biases: Mapping[int, float] | None = None


def biases_of(
    params: SamplingParams, generated: int, thinking: bool, stops: Iterable[int], think_close: int
) -> dict[int, float]:
    """The request's own biases, and no end, of the thinking or the text, before its minimum of tokens."""
    biases = dict(params.logit_bias)
    closed_too = thinking and generated < params.min_thinking
    if closed_too:
        biases[think_close] = -np.inf
    if closed_too or generated < params.min_tokens:
        biases |= dict.fromkeys(stops, -np.inf)
    return biases


def constrained(logits_NY: Tensor, constraints: Mapping[int, Constraint]) -> Tensor:
    """Logits as they are drawn from, before the temperature; rows without a constraint as they are."""
    found_NY = logits_NY.clone()
    for i, constraint in constraints.items():
        if constraint.biases:
            ids = handed(np.asarray(list(constraint.biases)), logits_NY.device)
            added = handed(np.asarray(list(constraint.biases.values()), np.float32), logits_NY.device)
            found_NY[i].index_add_(0, ids, added)
        if constraint.allowed is not None:
            found_NY[i].masked_fill_(~handed(constraint.allowed, logits_NY.device), -np.inf)
    return found_NY
