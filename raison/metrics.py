"""One writer of step metrics: a JSONL file that survives being killed, and sinks that watch (TensorBoard; progress.py).

The file is the record: one JSON object per step, flushed before the next step starts. Resuming drops the lines of steps
that will run again, and a last line that was torn in half. NaN and infinity are written as null, for JSON has neither.
Not covered: plots (bench/report.py), rollouts (a log of their own).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from raison.errors import UserError


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """One step of one stage: a line of the log, and what the sinks show."""

    stage: str
    step: int
    """Number of the step, from 1."""
    total: int
    tokens: int
    """Tokens that this step trained on."""
    seconds: float
    """What this step took."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Named figures: loss, reward, solved, dead, entropy, length, truncated ..."""

    def to_line(self) -> str:
        head = {"stage": self.stage, "step": self.step, "total": self.total, "tokens": self.tokens}
        figures = {name: float(value) for name, value in self.figures.items()}
        rates = {"seconds": float(self.seconds), **figures}
        finite = {name: value if math.isfinite(value) else None for name, value in rates.items()}
        return json.dumps({**head, **finite}, allow_nan=False) + "\n"


class Sink(Protocol):
    """Something that watches the steps go by."""

    def write(self, metrics: StepMetrics) -> None: ...

    def close(self) -> None: ...


class MetricsWriter:
    """Appends steps to a JSONL file and hands them to the sinks. A context manager; closing it closes the sinks."""

    def __init__(self, path: Path, sinks: Iterable[Sink] = (), *, resume_step: int = 1) -> None:
        """Open `path` and drop what it says of step `resume_step`, the next to run, and of all later ones."""
        path.parent.mkdir(parents=True, exist_ok=True)
        _truncate(path, resume_step)
        self._file = path.open("a", encoding="utf-8")
        self._sinks = tuple(sinks)

    def write(self, metrics: StepMetrics) -> None:
        self._file.write(metrics.to_line())
        self._file.flush()
        for sink in self._sinks:
            sink.write(metrics)

    def close(self) -> None:
        self._file.close()
        for sink in self._sinks:
            sink.close()

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The logged steps in order, without a torn last line; empty when there is no file.

    Raises UserError when any other line is not a step: then the file is not ours.
    """
    return [step for step, _ in _lines(path)]


def _lines(path: Path) -> list[tuple[dict[str, Any], int]]:
    """Each whole line's step with the offset where its line starts."""
    if not path.exists():
        return []
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    found: list[tuple[dict[str, Any], int]] = []
    offset = 0
    for line in whole.splitlines(keepends=True):
        found.append((_step(path, line, len(found) + 1), offset))
        offset += len(line)
    return found


def _step(path: Path, line: bytes, number: int) -> dict[str, Any]:
    try:
        step = json.loads(line)
        if isinstance(step, dict) and isinstance(step.get("step"), int):
            return step
    except ValueError:
        pass
    raise UserError(f"{path}: line {number} is not a step of a run; move the file away, or give another run folder")


def _truncate(path: Path, resume_step: int) -> None:
    if not path.exists():
        return
    lines = _lines(path)
    torn = path.read_bytes().rfind(b"\n") + 1
    os.truncate(path, next((offset for step, offset in lines if step["step"] >= resume_step), torn))


class TensorBoardSink:
    """Writes every figure as `<stage>/<name>` for TensorBoard."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # optional: an extra, and torch is slow to import
        except ImportError:
            raise UserError("TensorBoard is not installed: pip install 'raison[tensorboard]'") from None
        self._writer: Any = SummaryWriter(str(folder))

    def write(self, metrics: StepMetrics) -> None:
        rate = metrics.tokens / max(metrics.seconds, 1e-9)
        for name, value in {**metrics.figures, "tokens_per_second": rate}.items():
            self._writer.add_scalar(f"{metrics.stage}/{name}", value, metrics.step)

    def close(self) -> None:
        self._writer.close()
