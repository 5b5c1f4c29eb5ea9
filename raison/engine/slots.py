"""The running batch as a structure of arrays: one row per slot, so that a step of 256 sequences is a few array
operations.

A slot is a place in the batch. All that changes with every token (ids, counts, limits, pages) is a column here;
Python objects are touched only when a sequence starts or ends. The last row is nobody's: it pads tiny batches. Not
covered: who gets a slot (scheduler.py), what the numbers are used for (runner.py, sampler.py).

Legend: arrays indexed by slot; `rows` is an array of slots.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raison.engine.sequence import Sequence, mix

Ints = NDArray[np.int64]
Records = NDArray[np.void]
LIMITS = np.dtype([("top_k", np.int64), ("top_p", np.float64), ("min_p", np.float64)])
"""What the filters keep, as in filters.hpp."""
GOING, STOP, LENGTH = 0, 1, 2
UNLIMITED = 1 << 40
HOTTEST = float(np.finfo(np.float32).max)
"""A temperature beyond it is taken for it."""
NO_TOKEN = -1


@dataclass(frozen=True, slots=True)
class Drawn:
    """Tokens of a step, [R, K]: one for each of R samples, and then one behind each of its guesses."""

    tokens: Ints
    logprobs: NDArray[np.float32]
    agreed: Ints
    """How many of a sample's guesses, from the first on, are what was drawn."""


class Slots:
    def __init__(
        self, capacity: int, max_tokens: int, max_pages: int, think_close: int | None, stops: Iterable[int]
    ) -> None:
        rows = capacity + 1
        self.capacity = capacity
        self.padding = capacity
        self.think_close = NO_TOKEN if think_close is None else think_close
        self.endings = as_rows([self.think_close, *sorted(stops)])
        self.stops = self.endings[1:]
        self.tokens = np.zeros((rows, max_tokens), np.int64)
        self.logprobs = np.zeros((rows, max_tokens), np.float32)
        self.blocks = np.zeros((rows, max_pages), np.int64)
        self.active, self.blocked = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
        self._progress(rows)
        self._limits(rows)
        self._choice(rows)

    def _progress(self, rows: int) -> None:
        """How far each has come."""
        self.pages = _column(rows)
        self.length = np.ones(rows, np.int64)
        """Known tokens, prompt and generated."""
        self.computed = _column(rows)
        """Tokens whose latents are in the cache."""
        self.drafts = _column(rows)
        """Guesses of the next tokens, which stand in `tokens` from `length` on."""
        self.unfed = _column(rows)
        """Generated tokens that the MTP module has missed, since nothing was guessed then."""
        self.followed = _column(rows)
        """Tokens that a draft model has read; some may be its own guesses behind `length`."""
        self.prompt_length = _column(rows)
        self.closed_at = _column(rows)
        """Known tokens up to and with `</think>`; -1 while thinking."""
        self.first_token = np.zeros(rows, np.float64)
        self.forced = np.zeros(rows, np.bool_)

    def _limits(self, rows: int) -> None:
        """When each ends, and who it is."""
        self.budget, self.answer_limit, self.max_tokens = _column(rows), _column(rows), _column(rows)
        self.min_tokens, self.min_thinking = _column(rows), _column(rows)
        self.endless = np.zeros(rows, np.bool_)
        self.order = _column(rows)
        """The sequence's number: who is younger."""

    def _choice(self, rows: int) -> None:
        """How its tokens are drawn, and what is told of them."""
        self.temperature = np.zeros(rows, np.float32)
        self.limits = np.zeros(rows, LIMITS)
        self.limits["top_p"] = 1
        self.key = np.zeros(rows, np.uint64)
        self.bias_count, self.bias_ids, self.bias_values = _column(rows), _column(rows), _column(rows)
        """How many logits are biased, and the addresses of their ids and of what is added."""
        self._biases: dict[int, tuple[Ints, NDArray[np.float32]]] = {}
        self.bound = np.zeros(rows, np.bool_)
        """Whether the answer follows a grammar."""
        self.told = np.zeros(rows, np.bool_)
        self.watched = _column(rows)
        """How many of the likeliest tokens are told."""

    def load(self, slot: int, seq: Sequence) -> None:
        """Seat a sequence, fresh or preempted; its pages are the scheduler's business."""
        params, start = seq.params, len(seq.prompt)
        known = [*seq.prompt, *seq.generated]
        self.tokens[slot, : len(known)] = known
        self.logprobs[slot, start : len(known)] = seq.logprobs
        self.blocks[slot] = 0
        self.pages[slot] = self.computed[slot] = self.drafts[slot] = self.unfed[slot] = self.followed[slot] = 0
        self.length[slot], self.prompt_length[slot] = len(known), start
        self.closed_at[slot] = -1 if seq.closed_at < 0 else start + seq.closed_at
        self.budget[slot] = UNLIMITED if params.thinking_budget is None else params.thinking_budget
        self.answer_limit[slot] = params.answer_tokens if seq.thinks or seq.answers else UNLIMITED
        self.max_tokens[slot] = params.max_tokens
        self.order[slot] = seq.id
        self.endless[slot] = params.ignore_eos
        self.min_tokens[slot], self.min_thinking[slot] = params.min_tokens, params.min_thinking
        self._load_biases(slot, dict(params.logit_bias))
        self.watched[slot] = params.top_logprobs
        self.temperature[slot] = min(params.temperature, HOTTEST)
        self.limits[slot] = params.top_k, params.top_p, params.min_p
        self.key[slot] = mix(seq.seed)
        self.first_token[slot] = seq.first_token
        self.forced[slot], self.told[slot] = seq.forced, seq.stream is not None
        self.bound[slot] = seq.matcher is not None
        self.active[slot], self.blocked[slot] = True, False

    def save(self, slot: int, seq: Sequence) -> None:
        """Take a sequence off the batch with all that it has generated."""
        start, stop = int(self.prompt_length[slot]), int(self.length[slot])
        seq.generated = self.tokens[slot, start:stop].tolist()
        seq.logprobs = self.logprobs[slot, start:stop].tolist()
        seq.closed_at = -1 if self.closed_at[slot] < 0 else int(self.closed_at[slot]) - start
        seq.forced = bool(self.forced[slot])
        seq.first_token = float(self.first_token[slot])
        self.active[slot] = False

    def _load_biases(self, slot: int, biases: dict[int, float]) -> None:
        ids, values = as_rows(list(biases)), np.asarray(list(biases.values()), np.float32)
        self._biases[slot] = ids, values
        self.bias_count[slot], self.bias_ids[slot], self.bias_values[slot] = (
            len(ids),
            ids.ctypes.data,
            values.ctypes.data,
        )

    def generated(self, rows: Ints) -> Ints:
        generated: Ints = self.length[rows] - self.prompt_length[rows]
        return generated

    def constrained(self, rows: Ints, ahead: Ints) -> NDArray[np.bool_]:
        """Whether places so far behind what rows know have biases, or too few tokens before them for an end."""
        generated, thinking = self.generated(rows) + ahead, self.closed_at[rows] < 0
        short = (generated < self.min_tokens[rows]) | (thinking & (generated < self.min_thinking[rows]))
        constrained: NDArray[np.bool_] = (self.bias_count[rows] > 0) | short
        return constrained

    def guessable(self, rows: Ints) -> NDArray[np.bool_]:
        """Rows of which several tokens may be drawn in a step: no grammar follows them, and no more is told of them."""
        guessable: NDArray[np.bool_] = ~self.bound[rows] & (self.watched[rows] == 0)
        return guessable

    def must_close(self, rows: Ints) -> NDArray[np.bool_]:
        """Rows whose thinking has used up its budget: their next token is `</think>`, whatever was sampled."""
        spent: NDArray[np.bool_] = self.generated(rows) >= self.budget[rows]
        return spent & (self.closed_at[rows] < 0)

    def agreed(self, rows: Ints, tokens_RK: Ints) -> Ints:
        """How many guesses of each row, from the first on, are these tokens."""
        ahead_K = np.arange(tokens_RK.shape[1] - 1)
        at_RK = np.minimum(self.length[rows, None] + ahead_K, self.tokens.shape[1] - 1)
        right_RK = (self.tokens[rows[:, None], at_RK] == tokens_RK[:, :-1]) & (ahead_K < self.drafts[rows, None])
        agreed: Ints = np.logical_and.accumulate(right_RK, 1).sum(1)
        return agreed

    def reach(self, rows: Ints, tokens_RK: Ints, agreed: Ints) -> Ints:
        """How many of the tokens a row takes: one more than were guessed right, but none beyond what ends or closes."""
        if tokens_RK.shape[1] == 1:
            return np.ones(len(rows), np.int64)
        generated = self.generated(rows)
        closed = self.closed_at[rows]
        left = np.where(closed < 0, self.budget[rows] - generated, self.answer_limit[rows] + closed - self.length[rows])
        counts = np.minimum(agreed + 1, np.maximum(1, np.minimum(left, self.max_tokens[rows] - generated)))
        ends_RK = self._stops(tokens_RK) & ~self.endless[rows, None]
        turning_RK = ends_RK | (tokens_RK == self.think_close)
        first = np.where(turning_RK.any(1), turning_RK.argmax(1), tokens_RK.shape[1])
        reached: Ints = np.minimum(counts, first + 1)
        return reached

    def append(
        self,
        rows: Ints,
        tokens_RK: Ints,
        logprobs_RK: NDArray[np.float32],
        counts: Ints,
        forced: NDArray[np.bool_],
    ) -> Ints:
        """Write the first `counts` tokens to each row; returns GOING, STOP or LENGTH for each.

        All but the last of them were guessed, so that what they come from is in the cache. The guesses are gone.
        """
        self.first_token[rows[self.length[rows] == self.prompt_length[rows]]] = time.perf_counter()
        each, ahead = (np.arange(tokens_RK.shape[1]) < counts[:, None]).nonzero()
        at, place = rows[each], self.length[rows][each] + ahead
        self.tokens[at, place], self.logprobs[at, place] = tokens_RK[each, ahead], logprobs_RK[each, ahead]
        self.length[rows] += counts
        self.computed[rows] += counts - 1
        self.drafts[rows] = 0
        self.followed[rows] = np.minimum(self.followed[rows], self.length[rows] - 1)
        tokens, place = tokens_RK[np.arange(len(rows)), counts - 1], self.length[rows] - 1
        self.forced[rows] |= forced
        generated = place + 1 - self.prompt_length[rows]
        closing = (tokens == self.think_close) & (self.closed_at[rows] < 0)
        self.closed_at[rows[closing]] = place[closing] + 1
        closed = self.closed_at[rows]
        full = (generated >= self.max_tokens[rows]) | ((closed >= 0) & (place + 1 - closed >= self.answer_limit[rows]))
        state: Ints = np.where(self._stops(tokens) & ~self.endless[rows], STOP, np.where(full, LENGTH, GOING))
        return state

    def _stops(self, tokens: Ints) -> NDArray[np.bool_]:
        """Whether each token ends an answer."""
        ends = np.zeros(tokens.shape, np.bool_)
        for stop in self.stops:
            ends |= tokens == stop
        return ends


def _column(rows: int) -> Ints:
    return np.zeros(rows, np.int64)


def as_rows(values: Any) -> Ints:
    return np.asarray(values, dtype=np.int64)
