"""When requests are sent: so many at once (closed loop), or at times that do not wait for answers (open loop).

In a closed loop the next request goes out when one has ended: the load adapts to the server. In an open loop arrivals
follow their own times, as many independent users' do, and a slow server gets a queue (Schroeder et al. 2006, "Open
versus closed"). Not covered: ramps, traces.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Arrivals = Literal["poisson", "constant"]
AHEAD = 0.01
"""Seconds before a request is due at which an open loop hands it over, so that it is ready at its moment."""
Send = Callable[[int, float | None], Awaitable[None]]
"""Send request number i at the moment it is due; None: now."""


@dataclass(frozen=True, slots=True)
class Load:
    """`parallel` requests at once, or `rate` a second; the other is 0."""

    parallel: int = 0
    rate: float = 0.0
    arrivals: Arrivals = "poisson"

    @property
    def name(self) -> str:
        return f"{self.parallel} parallel" if self.parallel else f"{self.rate:g}/s {self.arrivals}"

    def times(self, count: int, seed: int) -> list[float]:
        """Seconds after the start at which an open loop sends; the first at 0."""
        if self.arrivals == "constant":
            return [i / self.rate for i in range(count)]
        numbers, at = Random(f"arrivals/{seed}"), [0.0]
        while len(at) < count:
            at.append(at[-1] + numbers.expovariate(self.rate))
        return at[:count]


async def drive(load: Load, count: int, send: Send, seed: int) -> None:
    """Send requests 0 .. count-1 and return when all have ended; a cancellation ends them."""
    async with asyncio.TaskGroup() as group:
        if load.parallel:
            numbers = iter(range(count))
            for _ in range(min(load.parallel, count)):
                group.create_task(_one_by_one(numbers, send))
        else:
            await _on_time(load.times(count, seed), send, group)


async def _one_by_one(numbers: Iterator[int], send: Send) -> None:
    """One of the parallel senders; they share the iterator."""
    for number in numbers:
        await send(number, None)


async def _on_time(times: Sequence[float], send: Send, group: asyncio.TaskGroup) -> None:
    start = time.perf_counter() + AHEAD
    for number, after in enumerate(times):
        await asyncio.sleep(start + after - AHEAD - time.perf_counter())
        group.create_task(_sent(send, number, start + after))


async def _sent(send: Send, number: int, due: float) -> None:
    await send(number, due)
