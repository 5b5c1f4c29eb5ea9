"""A second, smaller model of the same vocabulary guesses what the first will say (Leviathan et al. 2023).

It has a cache of its own, whose pages go by the same numbers as the model's: who holds a page holds it in both. A
prompt is read by both in the same step, so that a page that is found again has been read by both too. What is generated
it reads when it is next asked to guess, a little at a time where it has missed much. Not covered: how native code does
the same while it takes turns (turn.hpp), modules that see what the model computed (speculate.Predictor).

Legend: N rows, S stretches, K places ahead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raison.engine.runner import Logits
from raison.engine.scheduler import Plan
from raison.engine.slots import Ints, Slots
from raison.engine.span import Span
from raison.engine.speculate import Guesser, propose, wanted_of

READ_AT_ONCE = 512
"""Tokens of a sequence that are read in one step to catch up; it guesses again when it has read all."""


@dataclass(frozen=True, slots=True)
class Drafter:
    slots: Slots
    runner: Guesser

    def read(self, plan: Plan) -> None:
        """The prompts that the plan computes; copies of pages have been made."""
        slots = self.slots
        rows, _, stops = plan.stretches().T
        rows = np.concatenate((plan.decode, rows))
        stops = np.concatenate((slots.computed[plan.decode] + 1, stops))
        stops = np.minimum(stops, slots.prompt_length[rows])
        lacking = slots.followed[rows] < stops
        if lacking.any():
            self._run(rows[lacking], stops[lacking], np.zeros(lacking.sum(), np.int64))

    def guess(self, rows: Ints, room: Ints, step: Logits) -> None:
        rows, room = rows[room > 0], room[room > 0]
        if not len(rows):
            return
        stops = np.minimum(self.slots.length[rows], self.slots.followed[rows] + READ_AT_ONCE)
        self._run(rows, stops, np.where(stops == self.slots.length[rows], room, 0))

    def _run(self, rows: Ints, stops: Ints, most: Ints) -> None:
        """Read the rows up to `stops`, and guess so many tokens behind, which it has then read but for the last."""
        slots = self.slots
        span = Span.of(rows, slots.followed[rows], stops)
        ids_N = slots.tokens[span.slots_N, span.places_N]
        propose(slots, rows, self.runner.guess(span, ids_N, None, wanted_of(slots, rows, most)), most)
        slots.followed[rows] = stops + np.maximum(most - 1, 0)
