"""Guessing the next tokens, so that one step can check several of them.

A guess changes nothing but time. The engine draws every token from the model's own distribution with the noise that
belongs to its place (sampler.py), and goes on within the step only while what it drew is what was guessed: the tokens
of a request are the same with guesses and without, to the last bit in native code, up to rounding in PyTorch. For a
guess that is certain of itself that is the acceptance rule of speculative sampling (Leviathan et al. 2023; Chen et al.
2023), p(guess). Guesses of the MTP module are drawn with the noise of the place they are for, so that two distributions
that agree mostly draw the same.

Three sources. `Predictor`: the first MTP module (DeepSeek-V3 report, section 2.2), which goes on from the model's last
states, and further from its own. `Lookup`: what followed the last tokens where they stood before (prompt lookup, Saxena
2023). A draft model (drafter.py). Native code does all of it by itself while it takes turns (turns.py). How many
guesses pay is worth.py's business. Not covered: trees of guesses.

Legend: N rows of a step, S stretches, K places ahead, D width of a state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from raison.engine.runner import Logits
from raison.engine.sampler import uniforms
from raison.engine.scheduler import Scheduler
from raison.engine.slots import Ints, Slots
from raison.engine.span import Span, Wanted

LONGEST_MATCH, SHORTEST_MATCH = 4, 2
"""Tokens that must have stood before for Lookup to guess what comes."""
GAP = 128
"""Tokens of a sequence that the module may have missed and still guess for it."""


class Guesser(Protocol):
    def guess(self, span: Span, ids_N: Ints, before_ND: Tensor | None, wanted: Wanted) -> Ints: ...


class Source(Protocol):
    def guess(self, rows: Ints, room: Ints, step: Logits) -> None:
        """Write up to `room` guesses for each of `rows` behind its tokens, and their number to `slots.drafts`.

        `step` is the one that brought the rows to where they are.
        """


def wanted_of(slots: Slots, at_S: Ints, most_S: Ints) -> Wanted:
    """Guesses to draw behind each slot's tokens, with the noise of their places."""
    ahead_K1 = np.arange(max(1, int(most_S.max())))[:, None]
    at_KS = slots.length[at_S] - slots.prompt_length[at_S] + ahead_K1
    return Wanted(most_S, slots.temperature[at_S], slots.limits[at_S], uniforms(slots.key[at_S], at_KS))


def propose(slots: Slots, at_S: Ints, tokens_KS: Ints, most_S: Ints) -> None:
    """Write the guesses that are meant behind each slot's tokens."""
    ahead, which = (np.arange(len(tokens_KS))[:, None] < most_S).nonzero()
    slots.tokens[at_S[which], slots.length[at_S[which]] + ahead] = tokens_KS[ahead, which]
    slots.drafts[at_S] = most_S


@dataclass(frozen=True, slots=True)
class Lookup:
    slots: Slots

    def guess(self, rows: Ints, room: Ints, step: Logits) -> None:
        for row, most in zip(rows.tolist(), room.tolist(), strict=True):
            length = int(self.slots.length[row])
            found = continuation(self.slots.tokens[row, :length], most)
            self.slots.tokens[row, length : length + len(found)] = found
            self.slots.drafts[row] = len(found)


def continuation(tokens: Ints, most: int) -> Ints:
    """What followed the longest run of last tokens where it last stood before; empty where it did not."""
    for size in range(min(LONGEST_MATCH, len(tokens) - 1), SHORTEST_MATCH - 1, -1):
        windows = np.lib.stride_tricks.sliding_window_view(tokens[:-1], size)
        hits = np.flatnonzero((windows == tokens[-size:]).all(1))
        if len(hits):
            begin = int(hits[-1]) + size
            return tokens[begin : begin + most]
    return tokens[:0]


@dataclass(frozen=True, slots=True)
class Predictor:
    """Keeps the module's cache in step with the model's: every token that both states and successor are known of.

    Samples of one prompt share its pages. The prompt's last place, whose successor is each sample's own, is left out
    where they do: all of them have that one gap. A prefix that is found in the cache has the entries that were made for
    it, gaps included. Gaps make guesses a little worse, and nothing else.
    """

    slots: Slots
    scheduler: Scheduler
    runner: Guesser

    def guess(self, rows: Ints, room: Ints, step: Logits) -> None:
        assert step.span is not None and step.states_ND is not None
        slots, kept = self.slots, self._known(step.span)
        if not len(kept):
            return
        all_kept = len(kept) == len(step.span.slots_N)
        span = step.span if all_kept else Span(step.span.slots_N[kept], step.span.places_N[kept])
        states_ND = step.states_ND if all_kept else step.states_ND[kept]
        lasts = span.lasts()
        at_S = span.slots_N[lasts]
        most_S = self._most(rows, room, at_S, span.places_N[lasts])
        ids_N = slots.tokens[span.slots_N, span.places_N + 1]
        propose(slots, at_S, self.runner.guess(span, ids_N, states_ND, wanted_of(slots, at_S, most_S)), most_S)

    def _most(self, rows: Ints, room: Ints, at_S: Ints, places_S: Ints) -> Ints:
        """Guesses for each stretch: none while its prompt is not through."""
        most = np.zeros(len(self.slots.drafts), np.int64)
        most[rows] = room
        follows = (places_S == self.slots.length[at_S] - 2) & (self.slots.unfed[at_S] <= GAP)
        wanted: Ints = np.where(follows, most[at_S], 0)
        return wanted

    def _known(self, span: Span) -> Ints:
        """Rows whose token stayed, whose successor is known, and whose place in the cache is the sequence's own."""
        slots, at, places = self.slots, span.slots_N, span.places_N
        page = slots.blocks[at, places // self.scheduler.page_size]
        own = (self.scheduler.pool.references[page] == 1) | (places < slots.prompt_length[at] - 1)
        stayed = slots.active[at] & (places < slots.computed[at]) & (places + 1 < slots.length[at])
        known: Ints = (own & stayed).nonzero()[0]
        return known
