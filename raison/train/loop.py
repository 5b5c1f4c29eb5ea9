"""The one loop: call a step, write what happened, checkpoint by the clock, stop cleanly, resume exactly.

A step is a function of its number and the weights; data, sampling seeds and learning rates follow from the number. So
a run that was killed at any moment goes on from its last checkpoint and ends bit-identical to one that was not. Not
covered: what a step does (supervised.py, grpo.py), the order of stages (recipe.py).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType, TracebackType

import torch

from raison.errors import NumericalError, UserError
from raison.metrics import MetricsWriter, Sink, StepMetrics
from raison.train import checkpoint
from raison.train.learner import Learner


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """Tokens that went forward and backward, tokens that were sampled, and figures for the log and the screen."""

    trained: int
    sampled: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return self.trained + self.sampled


@dataclass(frozen=True, slots=True)
class Totals:
    """What a stage has used so far, over all the processes that ran it."""

    trained: int = 0
    sampled: int = 0
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        return self.trained + self.sampled

    def plus(self, outcome: StepOutcome, seconds: float) -> Totals:
        return Totals(self.trained + outcome.trained, self.sampled + outcome.sampled, self.seconds + seconds)


class Stopped(UserError):
    """The user asked to stop; the state is saved and the run can go on."""


class StopRequest(AbstractContextManager["StopRequest"]):
    """Turns the first ^C or SIGTERM into a wish that the loop reads between steps; a second one interrupts at once."""

    def __init__(self) -> None:
        self.wanted = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: whoever runs the loop there stops it otherwise
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True


@dataclass(frozen=True, slots=True)
class LoopSettings:
    stage: str
    steps: int
    checkpoint_seconds: float
    folder: Path


class Loop:
    """One stage's steps over a learner, in a folder that holds its checkpoints and its metrics."""

    def __init__(
        self, learner: Learner, settings: LoopSettings, note: Callable[[str], None] = lambda text: None
    ) -> None:
        self.learner, self.settings, self.note = learner, settings, note
        self.totals, self.next_step = Totals(), 0
        if checkpoint.exists(self._checkpoints):
            self._restore()
        else:
            self.save()  # something to fall back on from the first step

    @property
    def _checkpoints(self) -> Path:
        return self.settings.folder / "checkpoints"

    def run(self, step: Callable[[int], StepOutcome], sinks: Sequence[Sink], stop: StopRequest) -> Totals:
        """Run the steps that are left.

        Raises Stopped when asked to, with all saved, and NumericalError naming the last good state.
        """
        saved = time.monotonic()
        path = self.settings.folder / "metrics.jsonl"
        with MetricsWriter(path, sinks, resume_step=self.next_step + 1) as metrics:
            while self.next_step < self.settings.steps:
                try:
                    metrics.write(self._one(step))
                except NumericalError as error:
                    raise self._diverged(error) from None
                if stop.wanted:
                    raise Stopped(
                        f"stopped after step {self.next_step} of {self.settings.stage}; saved in {self.save()}"
                    )
                if time.monotonic() - saved >= self.settings.checkpoint_seconds:
                    self.save()
                    saved = time.monotonic()
        return self.totals

    def save(self) -> Path:
        """A checkpoint of the state between two steps."""
        tensors = self.learner.weights()
        return checkpoint.save(self._checkpoints, self.next_step, tensors, self.learner.state(), asdict(self.totals))

    def _one(self, step: Callable[[int], StepOutcome]) -> StepMetrics:
        start = time.perf_counter()
        outcome = step(self.next_step)
        seconds = time.perf_counter() - start
        self.totals = self.totals.plus(outcome, seconds)
        self.next_step += 1
        s = self.settings
        return StepMetrics(s.stage, self.next_step, s.steps, outcome.tokens, seconds, outcome.figures)

    def _restore(self) -> None:
        found = checkpoint.load(self._checkpoints)
        for text in found.warnings:
            self.note(text)
        self.learner.load_weights(found.model)
        self.learner.load_state(found.optimizer)
        torch.set_rng_state(found.random_state)
        self.totals = Totals(**found.extra)
        self.next_step = found.step

    def _diverged(self, error: NumericalError) -> NumericalError:
        """Weights whose loss is not finite were spoilt by the update before: a checkpoint of them is worth nothing."""
        good = checkpoint.forget(self._checkpoints, self.next_step)
        kept = f"the last good state is in {good}" if good else "no earlier state was saved"
        return NumericalError(f"{self.settings.stage}, step {self.next_step + 1}: {error}; {kept}")
