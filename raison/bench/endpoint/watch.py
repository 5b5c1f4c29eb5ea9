"""The client's own clock: waiting for a moment, and whether the client was the bottleneck.

A loop that is busy, or that waits for a core, stamps late; what it stamped is then partly its own time. How late it
woke and its share of a core tell. Not covered: lateness in the kernel or the network.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

EVERY = 0.005
"""Seconds between looks at the clock."""
SPIN = 0.002
"""Seconds before a moment from which on the clock is watched."""
LATE, BUSY = 0.005, 0.7
"""Seconds of lateness at the 99th percentile, and share of a core, from which on the client is called a bottleneck. The
system's timer alone is up to 1 ms late."""


@dataclass(frozen=True, slots=True)
class ClientLoad:
    """Lateness in seconds at percentiles and at most; processor time by wall time, 1 = one core."""

    late_p50: float
    late_p99: float
    late_max: float
    cpu_share: float

    def warnings(self) -> list[str]:
        said = []
        if self.late_p99 > LATE:
            said.append(
                f"the client woke {1000 * self.late_p99:.1f} ms late at the 99th percentile: times below some "
                f"{1000 * self.late_p99:.0f} ms are partly its own; measure from another or a less busy machine"
            )
        if self.cpu_share > BUSY:
            said.append(f"the client used {self.cpu_share:.0%} of a core: it may be the bottleneck; lower the load")
        return said


class Watch:
    """Run `look` as a task beside what is watched; `result` ends the watch."""

    def __init__(self) -> None:
        self._lates: list[float] = []
        self._began, self._cpu = time.perf_counter(), time.process_time()

    async def look(self) -> None:
        while True:
            due = time.perf_counter() + EVERY
            await asyncio.sleep(EVERY)
            self._lates.append(max(0.0, time.perf_counter() - due))

    def result(self) -> ClientLoad:
        wall, cpu = time.perf_counter() - self._began, time.process_time() - self._cpu
        lates = self._lates or [0.0]
        middle, high = np.percentile(lates, (50, 99))
        return ClientLoad(float(middle), float(high), max(lates), cpu / max(wall, 1e-9))


async def until(moment: float) -> None:
    """Return at the moment, by the clock of the stamps. The last of the way is watched: the timer is 1 ms coarse."""
    await asyncio.sleep(max(0.0, moment - SPIN - time.perf_counter()))
    while time.perf_counter() < moment:
        await asyncio.sleep(0)


@contextmanager
def undisturbed() -> Iterator[None]:
    """No collection of garbage inside: one takes milliseconds in which no time stamp is taken."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
