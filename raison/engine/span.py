"""Rows of a step as stretches of sequences, and what is to be guessed behind each. Plain arrays, no tensors.

Legend: N rows, S stretches, K places ahead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raison.engine.slots import Ints, Records


@dataclass(frozen=True, slots=True)
class Span:
    """Stretches of sequences one after another, each in order; no slot has two."""

    slots_N: Ints
    places_N: Ints

    @classmethod
    def of(cls, slots_S: Ints, starts_S: Ints, stops_S: Ints) -> Span:
        """Places [start, stop) of each slot."""
        sizes_S = stops_S - starts_S
        begins_S = np.cumsum(sizes_S) - sizes_S
        places_N = np.arange(sizes_S.sum()) + np.repeat(starts_S - begins_S, sizes_S)
        return cls(np.repeat(slots_S, sizes_S), places_N)

    def lasts(self) -> Ints:
        """Index of each stretch's last row, [S]."""
        last_N = np.ones(len(self.slots_N), np.bool_)
        np.not_equal(self.slots_N[1:], self.slots_N[:-1], out=last_N[:-1])
        return last_N.nonzero()[0]


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many guesses each stretch is to have, and how they are drawn."""

    most_S: Ints
    temperatures_S: NDArray[np.float32]
    limits_S: Records
    """Filters, as Slots.limits."""
    uniforms_KS: NDArray[np.float64]
    """The noise of the places that the guesses are for."""
