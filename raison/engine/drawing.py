"""Tokens of a step drawn where its rows stand: each by its own constraints, for the place and for those behind guesses.

Not covered: how a token is drawn (sampler.py), what becomes of it (slots.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Sequence as Ordered
from dataclasses import replace

import numpy as np

from raison.engine.constraint import Constraint, biases_of
from raison.engine.grammar import Matcher
from raison.engine.runner import Logits
from raison.engine.sampler import Places, likeliest, sample
from raison.engine.sequence import Sequence
from raison.engine.slots import Drawn, Ints, Slots


class Drawing:
    def __init__(self, slots: Slots, running: Mapping[int, Sequence], stops: Collection[int], vocabulary: int) -> None:
        self._slots, self._running, self._stops, self._vocabulary = slots, running, stops, vocabulary
        self.likeliest: dict[int, tuple[tuple[int, float], ...]] = {}
        """By slot, of the last step's places."""

    def draw(self, logits: Logits, rows: Ints) -> Drawn:
        """A token for the place behind each row, and for the one behind each of its guesses."""
        guesses = self._slots.drafts[rows]
        deepest = int(guesses.max())
        each, ahead = np.nonzero(np.arange(deepest + 1) <= guesses[:, None])
        matchers = self._matchers(rows[each])
        places = Places(rows[each], ahead)
        constraints = self._constraints(places, matchers)
        vocabulary, of_place = self._vocabulary, logits.of_sample[each] + ahead
        tokens, logprobs = sample(logits.lines_LY, of_place, vocabulary, self._slots, places, constraints)
        self._watch(rows, logits)
        for i, matcher in matchers:
            matcher.take(int(tokens[i]))
        if not deepest:
            return Drawn(tokens[:, None], logprobs[:, None], guesses)
        tokens_RK, logprobs_RK = (
            np.zeros((len(rows), deepest + 1), np.int64),
            np.zeros((len(rows), deepest + 1), np.float32),
        )
        tokens_RK[each, ahead], logprobs_RK[each, ahead] = tokens, logprobs
        return Drawn(tokens_RK, logprobs_RK, self._slots.agreed(rows, tokens_RK))

    def _constraints(self, places: Places, matchers: Ordered[tuple[int, Matcher]]) -> dict[int, Constraint]:
        """By index into `places`, which may be drawn more freely everywhere else."""
        slots, rows = self._slots, places.rows
        found = {i: Constraint(matcher.allowed()) for i, matcher in matchers}
        for i in np.flatnonzero(slots.constrained(rows, places.ahead)).tolist():
            slot, params = int(rows[i]), self._running[int(rows[i])].params
            generated = int(slots.generated(rows[i]) + places.ahead[i])
            if i in found:  # the grammar says where its answer ends
                found[i] = replace(found[i], biases=dict(params.logit_bias))
            else:
                thinking = bool(slots.closed_at[slot] < 0)
                biases = biases_of(params, generated, thinking, self._stops, slots.think_close)
                found[i] = Constraint(biases=biases)
        return found

    def _watch(self, rows: Ints, logits: Logits) -> None:
        """Keep the likeliest tokens of the places where somebody wants to be told of them; these have no guesses."""
        slots, vocabulary = self._slots, self._vocabulary
        self.likeliest = {}
        for i in np.flatnonzero(slots.watched[rows]).tolist():
            slot, line_Y = int(rows[i]), logits.lines_LY[int(logits.of_sample[i]), :vocabulary]
            self.likeliest[slot] = likeliest(line_Y, float(slots.temperature[slot]), int(slots.watched[slot]))

    def _matchers(self, rows: Ints) -> list[tuple[int, Matcher]]:
        """By index into `rows`, where an answer that follows a grammar has begun."""
        if not self._slots.bound[rows].any():
            return []
        begun = np.flatnonzero(self._slots.bound[rows] & (self._slots.closed_at[rows] >= 0))
        return [(int(i), m) for i in begun if (m := self._running[int(rows[i])].matcher) is not None]
