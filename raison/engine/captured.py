"""Decode steps of few shapes, each recorded once and then played again (device.py): what CUDA wants of an engine.

Sequences are padded up to a power of two, and so are the pages that they look at: those of the longest. What a step
needs stands in one row of integers, which goes over to the device in one piece, into the place where the recorded step
reads it. Steps with a prompt in them, or with guesses to check, have too many shapes: they are computed as they come.
Attention is PyTorch's fused one. On the CPU, in tests, the same steps are called and not recorded. Not covered: guesses
by an MTP module, weights of 8 and 4 bits, tokens that do not depend on the batch to the last bit (the noise that they
are drawn with does not depend on it).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from raison.engine.cache import LatentCache
from raison.engine.device import Capture, Eager, Graph, Step, asks_host_for_groups, pinned
from raison.engine.runner import Laid, Run, Runner, Shape, pad
from raison.engine.scheduler import Plan
from raison.engine.slots import Slots
from raison.engine.twin import Dtype, device_copy, refresh_device_copy
from raison.model.moe import Experts
from raison.model.transformer import Transformer


@dataclass(frozen=True, slots=True)
class Recorded:
    """A step, and where it reads its numbers."""

    numbers: Tensor
    again: Step


class CapturedRunner(Runner):
    gathered_bytes = 2**28
    """Bounds the memory that keys are gathered in, no more: nobody has measured what is fast."""
    fused = True

    def __init__(self, model: Transformer, slots: Slots, cache: LatentCache, dtype: Dtype, record: bool) -> None:
        super().__init__(model, slots, cache, dtype)
        self._capture: Capture = Graph() if record and self.recordable() else Eager()
        self._recorded: dict[tuple[Shape, ...], Recorded] = {}

    def recordable(self) -> bool:
        """Whether nothing in a step waits for the device to tell the host."""
        experts = [module for module in self.model.modules() if isinstance(module, Experts)]
        grouped = all(module.grouped for module in experts)
        return not experts or (grouped and not asks_host_for_groups(self.device, self.dtype))

    def refresh(self) -> None:
        refresh_device_copy(self._source, self.model, self._dtype)

    def _copy(self, model: Transformer) -> Transformer:
        return device_copy(model, self._dtype, self.device)

    def _runs(self, plan: Plan) -> list[Run]:
        if not _recurs(plan):
            return super()._runs(plan)
        slots, count, computed = self.slots, len(plan.decode), self.slots.computed[plan.decode]
        longest = int(computed.max()) // self.cache.page_size + 1
        pages = min(_power_of_two(longest), slots.blocks.shape[1])
        (run,) = pad([Run(plan.decode, computed, computed + 1, 1, pages)], _power_of_two(count) - count, slots.padding)
        parts = self._parts(np.arange(len(run.rows)), pages)
        return [Run(run.rows[part], run.starts[part], run.stops[part], 1, pages) for part in parts]

    def _states(self, plan: Plan, laid: Laid) -> Tensor:
        if not _recurs(plan):
            return super()._states(plan, laid)
        numbers = pinned(laid.numbers(self.slots.tokens[laid.slots_N, laid.places_N]), self.device)
        recorded = self._recorded.get(laid.shapes)
        if recorded is None:
            recorded = self._recorded[laid.shapes] = self._record(laid.shapes, numbers)
        recorded.numbers.copy_(numbers, non_blocking=True)
        return recorded.again()

    def _record(self, shapes: tuple[Shape, ...], numbers: Tensor) -> Recorded:
        """A step of these shapes; to compute it twice on the same numbers does no harm."""
        own = numbers.to(self.device, copy=True)
        return Recorded(own, self._capture.record(lambda: self.compute(shapes, own)))

    def _make_room(self, pages: int) -> Tensor:
        """Memory of the step's own: what was recorded goes on writing where it did."""
        return self._room.new_empty(pages, self._room.shape[1])


def _recurs(plan: Plan) -> bool:
    """Whether all that the plan computes are last tokens."""
    return len(plan.decode) > 0 and not plan.chunks and not plan.checks


def _power_of_two(count: int) -> int:
    """The next one, from `count` on."""
    return 1 << (count - 1).bit_length()
