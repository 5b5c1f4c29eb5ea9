"""One step through the model in native code: the plan's rows as plain arrays, logits out.

The same interface as runner.py, which is its reference. Every row's numbers depend on its own sequence alone, to the
last bit, whatever else is in the step. Not covered: bf16, models too large to pack (runner.py serves them).

Legend: N rows of the step, S sequences.
"""

from __future__ import annotations

import numpy as np

from raison.engine.cache import LatentCache
from raison.engine.kernels.native import NativeStep, Precision, Rows
from raison.engine.runner import Logits
from raison.engine.scheduler import Plan
from raison.engine.slots import Ints, Slots, as_rows
from raison.model.transformer import Transformer


class NativeRunner:
    def __init__(self, model: Transformer, slots: Slots, cache: LatentCache, precision: Precision = "fp32") -> None:
        self.slots, self.cache = slots, cache
        self._step = NativeStep(model, slots.tokens.shape[1], precision)
        self._last_row = np.zeros(slots.capacity + 1, np.int64)

    def refresh(self) -> None:
        """Take over the model's changed weights."""
        self._step.refresh()

    def run(self, plan: Plan) -> Logits:
        """Compute the plan's tokens into the cache, and logits for its samples."""
        for source, target in plan.copies:
            self.cache.copy(source, target)
        sources, lines = np.unique(plan.sources, return_inverse=True)
        rows = self._rows(plan, sources)
        logits = self._step.run(rows, self.slots.blocks, self.cache.latents_ZGPW, len(sources))
        return Logits(logits, lines)

    def _rows(self, plan: Plan, sources: Ints) -> Rows:
        chunks = as_rows([(c.slot, c.start, c.stop) for c in plan.chunks]).reshape(-1, 3)
        slots_S = np.concatenate((plan.decode, chunks[:, 0]))
        first_S = np.concatenate((self.slots.computed[plan.decode], chunks[:, 1]))
        sizes_S = np.concatenate((np.ones(len(plan.decode), np.int64), chunks[:, 2] - chunks[:, 1]))
        starts_S1 = np.concatenate((as_rows([0]), np.cumsum(sizes_S)))
        slots_N = np.repeat(slots_S, sizes_S)
        places_N = np.arange(starts_S1[-1]) + np.repeat(first_S - starts_S1[:-1], sizes_S)
        self._last_row[slots_S] = starts_S1[1:] - 1
        outputs_N = np.full(len(slots_N), -1, np.int64)
        outputs_N[self._last_row[sources]] = np.arange(len(sources))
        return Rows(self.slots.tokens[slots_N, places_N], places_N, starts_S1, slots_S, outputs_N)
