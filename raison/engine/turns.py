"""Decoding in native code, turn after turn: while running sequences lack one token each and nobody can be seated.

A call ends when a sequence does, when pages are to be taken, or when it has lasted long enough; then Python goes on,
and tells whoever listens of all the turns at once: a stop string is seen then, and what was drawn after it forgotten.
Whatever is not of that kind the engine does verb by verb, with the same tokens to the last bit. Not covered: tokens
that a grammar restricts, places of which the likeliest tokens are told.
"""

from __future__ import annotations

from dataclasses import dataclass

from raison.engine.kernels.turns import NativeTurns
from raison.engine.sampler import NOT_FINITE
from raison.engine.scheduler import Scheduler
from raison.engine.slots import GOING, Ints, Slots
from raison.errors import NumericalError

AHEAD = 64
"""Places for which pages are taken at once, while most of them are free."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a call came to. Counts and states are of each row; the next call overwrites them."""

    turns: int
    rows: Ints
    counts: Ints
    states: Ints
    sampled: int
    guessed: int

    def touched(self, slots: Slots) -> list[tuple[int, list[int], int]]:
        """Slots that ended or are told token by token, their new tokens, and what state these brought."""
        found = []
        for i in ((self.states != GOING) | slots.told[self.rows]).nonzero()[0].tolist():
            slot, length = int(self.rows[i]), int(slots.length[self.rows[i]])
            found.append((slot, slots.tokens[slot, length - self.counts[i] : length].tolist(), int(self.states[i])))
        return found


class Turns:
    def __init__(self, native: NativeTurns, scheduler: Scheduler, slots: Slots) -> None:
        self._native, self._scheduler, self._slots = native, scheduler, slots
        self._rows: Ints | None = None
        self._serves = False

    def ripe(self) -> Ints | None:
        """The slots, oldest first, if they can take turns."""
        rows = self._scheduler.steady()
        if rows is not self._rows:
            self._rows = rows
            self._serves = rows is not None and len(rows) > 0 and bool(self._slots.guessable(rows).all())
        return rows if self._serves else None

    def take(self, rows: Ints, depth: int, most: int) -> Taken | None:
        """So many turns at most, with up to `depth` guesses a row; None where a row lacks a page that cannot be had."""
        native = self._native
        turns = native.take(rows, most, depth, strict=True)
        if not turns:
            self._extend(rows[native.states[: len(rows)] != GOING], depth)
            turns = native.take(rows, most, depth, strict=True) or native.take(rows, 1, depth, strict=False)
        if turns < 0:
            raise NumericalError(NOT_FINITE)
        if not turns:
            return None
        count = len(rows)
        return Taken(turns, rows, native.counts[:count], native.states[:count], native.sampled, native.guessed)

    def _extend(self, rows: Ints, depth: int) -> None:
        pool, drafts = self._scheduler.pool, self._slots.drafts
        for slot in rows.tolist():
            needed = int(drafts[slot]) + 1 + depth if depth else 0
            self._scheduler.extend(slot, needed + AHEAD if pool.available > pool.total // 2 else needed)
