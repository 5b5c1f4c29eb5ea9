"""`raison bench soak`: an engine under mixed load for an hour: does memory grow, does speed drift, is a page lost?

Callers come and go: as many requests are under way as a level that wanders, some callers give up, some read tokens as
they come and some wait for the end in silence. At the end of every interval the load runs out, and every page of the
cache must be free again. Tokens are counted per second of the process's own CPU time too, and drift is judged by tokens
in the CPU time of a yardstick, which other work on the machine slows down as well. Memory is what is resident when the
C library has handed freed blocks back. Verdicts leave the first fifth of the run out: memory is first touched then.
Not covered: servers, changes of weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from random import Random
from statistics import fmean
from typing import Any

from raison.bench.note import Note, unheard
from raison.bench.traffic import Request, Traffic
from raison.bench.trend import Trend, trend
from raison.bench.yardstick import Yardstick
from raison.engine.engine import Engine
from raison.hardware import peak_bytes, release_memory, resident_bytes

WARM_UP, LEAST_LINES = 0.2, 5
GROWTH_SHARE, GROWTH_BYTES = 0.01, 4 * 2**20
"""Memory grows where its whole 95 % interval lies above the larger of these: a share of it, and bytes."""
GIVES_UP, SILENT = 0.01, 0.01
"""Chances a step that a caller cancels, and that one asks in silence."""
MEASURED = 256
"""Steps between two uses of the yardstick."""


@dataclass(frozen=True, slots=True)
class Line:
    """One interval; pages are of the cache, bytes the whole process's that are resident."""

    second: float
    """At its end, since the soak began."""
    requests: int
    tokens: int
    prompt_tokens: int
    """Computed, that is not found in the cache."""
    cancelled: int
    preempted: int
    seconds: float
    cpu_seconds: float
    """Without the yardstick's."""
    yardstick_seconds: float
    """Of CPU time, the mean of the interval."""
    resident_bytes: int
    """At rest, freed blocks handed back: what is held, not how high the load once reached."""
    pages_held: int
    """The most at once under load."""
    pages_lost: int
    """Held though nothing was under way: the end of the interval."""
    pages_free: int
    """The same moment."""

    @property
    def pace(self) -> float:
        """Tokens in the CPU time of the yardstick, those of prompts too: what drifts if the engine does."""
        return (self.tokens + self.prompt_tokens) / self.cpu_seconds * self.yardstick_seconds

    def __str__(self) -> str:
        return (
            f"{self.second / 60:6.1f} min  {self.requests:,} requests  {self.tokens:,} tokens  "
            f"{self.tokens / self.seconds:,.0f}/s  {self.tokens / self.cpu_seconds:,.0f} per CPU second  "
            f"{self.resident_bytes / 2**20:,.1f} MiB  pages held {self.pages_held:,}, at rest {self.pages_lost}, "
            f"free {self.pages_free:,}"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the lines after the warm-up say."""

    growth: Trend
    """Of resident bytes."""
    drift: Trend
    """Of `pace`."""
    pages_lost: int

    @property
    def bound(self) -> float:
        return max(GROWTH_BYTES, GROWTH_SHARE * self.growth.mean)

    @property
    def grows(self) -> bool:
        return self.growth.low > self.bound

    @property
    def sound(self) -> bool:
        return not self.grows and self.pages_lost == 0


def soak(
    engine: Engine, traffic: Traffic, seconds: float, every: float, seed: int, note: Note = unheard,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Line]:  # fmt: skip
    """The lines of a soak of so many seconds, one after `every` so many and what then runs out; as many as a verdict
    needs, if it takes longer.
    """
    callers = _Callers(engine, traffic, seed)
    begun, lines = clock(), list[Line]()
    while clock() - begun < seconds - every / 2 or len(lines) < LEAST_LINES:
        lines.append(_interval(callers, begun, every, clock))
        note(str(lines[-1]))
    return lines


def judged(lines: Sequence[Line]) -> Verdict:
    """Of at least LEAST_LINES lines."""
    warm = lines[math.ceil(WARM_UP * len(lines)) :]
    at = [line.second for line in warm]
    return Verdict(
        growth=trend(at, [float(line.resident_bytes) for line in warm]),
        drift=trend(at, [line.pace for line in warm]),
        pages_lost=max(line.pages_lost for line in lines),
    )


def figures(lines: Sequence[Line], verdict: Verdict) -> dict[str, Any]:
    """As plain numbers, changes over the run after its warm-up: [value, low, high]."""
    growth, drift = verdict.growth, verdict.drift
    return {
        "seconds": lines[-1].second, "requests": sum(line.requests for line in lines),
        "tokens": sum(line.tokens for line in lines), "cancelled": sum(line.cancelled for line in lines),
        "preempted": sum(line.preempted for line in lines), "resident_bytes": lines[-1].resident_bytes,
        "peak_bytes": peak_bytes(),
        "growth_bytes": [growth.change, growth.low, growth.high], "growth_bound_bytes": verdict.bound,
        "drift": [part / drift.mean for part in (drift.change, drift.low, drift.high)],
        "pages_lost": verdict.pages_lost, "sound": verdict.sound, "lines": [asdict(line) for line in lines],
    }  # fmt: skip


def _interval(callers: _Callers, begun: float, seconds: float, clock: Callable[[], float]) -> Line:
    before, requests, cancelled = callers.engine.stats, callers.requests, callers.cancelled
    start, processor = clock(), time.process_time()
    held = callers.play(lambda: clock() - start < seconds)
    now, after, measured = clock(), callers.engine.stats, callers.measured()
    processor = time.process_time() - processor - sum(measured)
    release_memory()
    return Line(
        second=now - begun, requests=callers.requests - requests,
        tokens=after.tokens_sampled - before.tokens_sampled,
        prompt_tokens=after.prompt_tokens_computed - before.prompt_tokens_computed,
        cancelled=callers.cancelled - cancelled, preempted=after.preemptions - before.preemptions,
        seconds=now - start, cpu_seconds=processor,
        yardstick_seconds=fmean(measured), resident_bytes=resident_bytes(), pages_held=held,
        pages_lost=after.pages_total - after.pages_free, pages_free=after.pages_free,
    )  # fmt: skip


class _Callers:
    """Those who ask the engine, and what they have under way."""

    def __init__(self, engine: Engine, traffic: Traffic, seed: int) -> None:
        self.engine, self._traffic, self._numbers = engine, traffic, Random(f"callers/{seed}")
        self._under_way: set[int] = set()
        self._level = engine.settings.max_batch
        self._yardstick, self._measured = Yardstick(), list[float]()
        self.requests = self.cancelled = 0

    def play(self, more: Callable[[], bool]) -> int:
        """Callers come while there is `more`, then the load runs out; the most pages that were held."""
        held = 0
        while (coming := more()) or self._under_way:
            if coming:
                self._come_and_go()
            for event in self.engine.step():
                if event.finished is not None:
                    self._under_way.discard(event.sequence_id)
            stats = self.engine.stats
            held = max(held, stats.pages_total - stats.pages_free)
            if stats.steps % MEASURED == 0:
                self._measured.append(self._yardstick.seconds())
        return held

    def measured(self) -> list[float]:
        """What the yardstick took since this was asked last, and now."""
        found, self._measured = [*self._measured, self._yardstick.seconds()], []
        return found

    def _come_and_go(self) -> None:
        numbers, most = self._numbers, 2 * self.engine.settings.max_batch
        self._level = max(1, min(most, self._level + numbers.choice((-1, 0, 0, 1))))
        while len(self._under_way) < self._level:
            request = self._next()
            self._under_way.update(
                self.engine.submit(request.prompt_ids, request.params, request.samples, request.tenant)
            )
        if numbers.random() < GIVES_UP:
            self.engine.cancel(numbers.choice(sorted(self._under_way)))
            self.cancelled += 1
        if numbers.random() < SILENT:
            request = self._next()
            self.engine.generate([request.prompt_ids], request.params, request.samples, tenant=request.tenant)

    def _next(self) -> Request:
        self.requests += 1
        return self._traffic.draw()
