"""How many guesses pay: seconds a token with none, one, two ..., by powers of two of the batch, each tried in turn.

Time is the median of what steps took; tokens a step are a mean, since they differ more. While nothing is guessed an MTP
module is not fed either, so that trials of that are short: what it has missed makes its guesses worse.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import fmean, median

TRIAL, PLAIN_TRIAL = 48, 12
"""Steps in which a way is tried: with guesses, and with none, where only the time is to be found."""
AT_ONCE = 4
"""Steps of a trial that are timed together."""
PERIOD, LONGEST_PERIOD = 1024, 16384
"""Steps after which all ways are tried again: twice as many each time that nothing came of it."""
KEPT = 64
"""Timings of a way that count."""


class Worth:
    def __init__(self, deepest: int) -> None:
        self._ways = range(deepest, -1, -1)
        self._sizes: dict[int, _Size] = {}
        self._last: tuple[int, int] | None = None

    def depth(self, batch: int) -> int:
        """Guesses to make now for each row of a batch of so many."""
        return self._of(batch).way

    def most(self, batch: int) -> int:
        """Steps to make before `learn` is called."""
        size = self._of(batch)
        return min(size.left, AT_ONCE) if size.trying else size.left

    def learn(self, batch: int, depth: int, steps: int, seconds: float, tokens: int) -> None:
        """So many steps. The first after a change are not counted: they check the other way's guesses."""
        last, self._last = self._last, (batch.bit_length(), depth)
        self._of(batch).learn(depth, steps, None if last != self._last else (seconds / steps, tokens / (steps * batch)))

    def _of(self, batch: int) -> _Size:
        return self._sizes.setdefault(batch.bit_length(), _Size(self._ways))


class _Size:
    """What is known for batches of about one size."""

    def __init__(self, ways: Sequence[int]) -> None:
        self._ways, self._untried = ways, list(ways)
        self._timings: dict[int, deque[tuple[float, float]]] = {way: deque(maxlen=KEPT) for way in ways}
        self._best, self._period = -1, PERIOD
        self._next()

    def learn(self, way: int, steps: int, timing: tuple[float, float] | None) -> None:
        """`timing`: seconds a step, and tokens that each row got by it."""
        if timing is not None:
            self._timings[way].append(timing)
        if way == self.way:
            self.left -= steps
            if self.left <= 0:
                self._next()

    def _next(self) -> None:
        if self._untried:
            self.way, self.trying = self._untried.pop(0), True
            self.left = TRIAL if self.way else PLAIN_TRIAL
            self._timings[self.way].clear()
        elif self.trying:
            self._settle()
        else:
            self._untried = [way for way in self._ways if way != self.way]
            self._next()

    def _settle(self) -> None:
        self.way, self.trying = min(self._ways, key=self._cost), False
        self._period = min(2 * self._period, LONGEST_PERIOD) if self.way == self._best else PERIOD
        self._best, self.left = self.way, self._period

    def _cost(self, way: int) -> float:
        timings = self._timings[way]
        if not timings:
            return float("inf")
        return median(seconds for seconds, _ in timings) / fmean(tokens for _, tokens in timings)
