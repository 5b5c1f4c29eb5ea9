"""A fixed piece of work whose CPU time tells how fast the machine is just now, whoever else uses its caches and cores.

Some Python, as a scheduler is, and a pass over more numbers than a core's own caches hold, as a step is. Not covered:
an exact share of either; a change of speed is told from the neighbours' by some percent and not better.
"""

from __future__ import annotations

import time

import numpy as np

NAMES, NUMBERS, PASSES = 60_000, 1 << 21, 16
"""Entries of a dictionary; numbers in fp32, 8 MB, and how often they are read."""


class Yardstick:
    """Made once, so that what is measured allocates nothing large."""

    def __init__(self) -> None:
        self._numbers = np.ones(NUMBERS, np.float32)

    def seconds(self) -> float:
        """CPU time of the work now, on this thread alone: others spin while they wait. Some 10 ms."""
        start = time.thread_time()
        found = {name: name for name in range(NAMES)}
        assert len(found) == NAMES
        for _ in range(PASSES):
            self._numbers.sum()
        return time.thread_time() - start
