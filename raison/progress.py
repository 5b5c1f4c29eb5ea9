"""The live view of a run: a sink of metrics.py for people, redrawn on a terminal, one plain line now and then in a log.

Not covered: the record of a run (metrics.py), the bill after it (train/bill.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from time import monotonic

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raison.metrics import StepMetrics

SMOOTHING = 0.1
"""Weight of the newest step in the running pace."""


class ConsoleSink:
    """A live view of the running stage; on anything but a terminal, one plain line every `interval` seconds."""

    def __init__(self, console: Console, interval: float = 10.0, clock: Callable[[], float] = monotonic) -> None:
        self._console, self._interval, self._clock = console, interval, clock
        self._live: Live | None = None
        self._last: StepMetrics | None = None
        self._pace = Pace()
        self._elapsed = 0.0
        self._printed = -math.inf

    def write(self, metrics: StepMetrics) -> None:
        if self._last is None or self._last.stage != metrics.stage:
            self._end_stage()
        self._last = metrics
        self._pace.add(metrics)
        self._elapsed += metrics.seconds
        self._show(metrics)

    def close(self) -> None:
        self._end_stage()

    def _show(self, metrics: StepMetrics) -> None:
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._console, refresh_per_second=4, transient=True)
                self._live.start()
            self._live.update(_view(metrics, self._pace))
        elif self._clock() - self._printed >= self._interval or metrics.step >= metrics.total:
            self._printed = self._clock()
            left = clock_time(self._pace.seconds_left(metrics))
            words = f"{metrics.stage} step {metrics.step}/{metrics.total}  {left} left  {self._pace.rate}"
            self._console.print(Text(f"{words}  {figures_text(metrics.figures)}"), soft_wrap=True)

    def _end_stage(self) -> None:
        """Leave one line of the stage on the screen, and start afresh."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if (last := self._last) is not None:
            mark = "✓" if last.step >= last.total else "▪"
            words = f"{mark} {last.stage:<10} {clock_time(self._elapsed):>7}  {self._pace.rate}"
            self._console.print(Text(f"{words}  {figures_text(last.figures)}"), soft_wrap=True)
        self._last, self._pace, self._elapsed, self._printed = None, Pace(), 0.0, -math.inf


class Pace:
    """Smoothed seconds per step and tokens per second, so that one slow step does not double the time left."""

    def __init__(self) -> None:
        self._seconds = self._tokens = self._weight = 0.0

    def add(self, metrics: StepMetrics) -> None:
        self._seconds += SMOOTHING * (metrics.seconds - self._seconds)
        self._tokens += SMOOTHING * (metrics.tokens - self._tokens)
        self._weight += SMOOTHING * (1 - self._weight)

    def seconds_left(self, metrics: StepMetrics) -> float:
        return self._seconds / max(self._weight, SMOOTHING) * (metrics.total - metrics.step)

    @property
    def rate(self) -> str:
        return f"{self._tokens / max(self._seconds, 1e-9) / 1000:.1f} k tok/s"


def clock_time(seconds: float) -> str:
    """75 -> `1:15`, 3700 -> `1:01:40`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def figures_text(figures: Mapping[str, float]) -> str:
    """`loss 0.41  length 128`: three digits that matter, large counts whole."""
    pairs = figures.items()
    return "  ".join(f"{name} {value:.0f}" if abs(value) >= 100 else f"{name} {value:.3g}" for name, value in pairs)


def _view(metrics: StepMetrics, pace: Pace) -> Group:
    row = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=metrics.total, completed=metrics.step, width=20)
    left = f"{clock_time(pace.seconds_left(metrics))} left"
    row.add_row(f"▶ {metrics.stage}", f"step {metrics.step}/{metrics.total}", bar, left, pace.rate)
    return Group(row, Text(f"  {figures_text(metrics.figures)}"))
