"""How many guesses pay: seconds a token with none, one, two ..., by powers of two of the batch, each tried in turn.

Time is the median of what steps took; tokens a step are a mean, since they differ more. Ways are tried from none
upwards, as long as one more guess does not cost much, and later the neighbours of the best. While nothing is guessed an
MTP module is not fed either, so that trials of that are short: what it has missed makes its guesses worse. Not covered:
whose guesses they are (speculate.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import fmean, median

TRIAL, SHORTEST = 48, 16
"""Steps of one row in which a way is tried, fewer for more rows; and how many at least, which do for none."""
WORSE = 1.1
"""How much more than the best a way must cost for deeper ones not to be tried."""
AT_ONCE = 2
"""Steps of a trial that are timed together."""
PERIOD, LONGEST_PERIOD = 1024, 16384
"""Steps after which all ways are tried again: twice as many each time that nothing came of it."""
KEPT = 64
"""Timings of a way that count."""


class Worth:
    def __init__(self, deepest: int) -> None:
        self._ways = range(deepest + 1)
        self._sizes: dict[int, _Size] = {}
        self._last: tuple[int, int] | None = None

    def depth(self, batch: int) -> int:
        """Guesses to make now for each row of a batch of so many."""
        return self._of(batch).way

    def most(self, batch: int) -> int:
        """Steps to make before `learn` is called."""
        size = self._of(batch)
        return min(size.left, AT_ONCE) if size.trying else size.left

    def learn(self, batch: int, depth: int, steps: int, seconds: float, tokens: float) -> None:
        """So many steps. The first after a change are not counted: they check the other way's guesses."""
        last, self._last = self._last, (batch.bit_length(), depth)
        self._of(batch).learn(depth, steps, None if last != self._last else (seconds / steps, tokens / (steps * batch)))

    def _of(self, batch: int) -> _Size:
        bits = max(1, batch.bit_length())  # a step in the middle of a prompt samples nothing
        if bits not in self._sizes:
            self._sizes[bits] = _Size(self._ways, max(SHORTEST, TRIAL >> (bits - 1)))
        return self._sizes[bits]


class _Size:
    """What is known for batches of about one size."""

    def __init__(self, ways: Sequence[int], trial: int) -> None:
        self._ways, self._trial, self._untried = ways, trial, list(ways)
        self._timings: dict[int, deque[tuple[float, float]]] = {way: deque(maxlen=KEPT) for way in ways}
        self._best, self._period, self.way, self.trying = -1, PERIOD, 0, False
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
        if not self.trying:
            self._untried = self._untried or [way for way in (self.way - 1, self.way + 1) if way in self._ways]
        elif not self._untried or self._cost(self.way) > WORSE * min(map(self._cost, self._ways)):
            return self._settle()
        self.way, self.trying = self._untried.pop(0), True
        self.left = self._trial if self.way else SHORTEST
        self._timings[self.way].clear()

    def _settle(self) -> None:
        self.way, self.trying, self._untried = min(self._ways, key=self._cost), False, []
        self._period = min(2 * self._period, LONGEST_PERIOD) if self.way == self._best else PERIOD
        self._best, self.left = self.way, self._period

    def _cost(self, way: int) -> float:
        timings = self._timings[way]
        if not timings:
            return float("inf")
        return median(seconds for seconds, _ in timings) / fmean(tokens for _, tokens in timings)
