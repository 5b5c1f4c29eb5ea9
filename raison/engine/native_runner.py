"""One step through the model in native code: the plan's rows as plain arrays, logits out.

The same interface as runner.py, which is its reference. Every row's numbers depend on its own sequence alone, to the
last bit, whatever else is in the step. Not covered: bf16, models too large to pack (runner.py serves them).

Legend: N rows of the step, D width of a state, S stretches of sequences.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from raison.engine.cache import LatentCache
from raison.engine.kernels.native import NativePredictor, NativeStep, Rows
from raison.engine.kernels.turns import NativeTurns
from raison.engine.kernels.weights import Precision
from raison.engine.runner import Logits, lines_of
from raison.engine.scheduler import Plan
from raison.engine.slots import Ints, Slots, as_rows
from raison.engine.span import Span, Wanted
from raison.model.transformer import Transformer


class NativeRunner:
    def __init__(
        self,
        model: Transformer,
        slots: Slots,
        cache: LatentCache,
        precision: Precision = "fp32",
        predicts: bool = False,
    ) -> None:
        self.slots, self.cache = slots, cache
        longest = slots.tokens.shape[1]
        self._step = NativeStep(model, longest, precision)
        self._predictor = NativePredictor(model, longest) if predicts else None
        self._width = model.spec.hidden_size
        self._last_row = np.zeros(slots.capacity + 1, np.int64)

    def refresh(self) -> None:
        """Take over the model's changed weights."""
        self._step.refresh()
        if self._predictor is not None:
            self._predictor.refresh()

    def run(self, plan: Plan) -> Logits:
        """Compute the plan's tokens into the cache, and logits for its samples."""
        for source, target in plan.copies:
            self.cache.copy(source, target)
        sources, widths, of_sample = lines_of(plan, self.slots.drafts)
        span, starts_S1 = self._rows(plan)
        self._last_row[span.slots_N] = np.arange(len(span.slots_N))  # a slot's last row is written last
        first = self._last_row[sources] + 1 - widths
        lines = int(widths.sum())
        wanted = np.arange(lines) + np.repeat(first - (np.cumsum(widths) - widths), widths)
        states_ND = torch.empty(len(span.slots_N), self._width) if self._predictor is not None else None
        ids_N = self.slots.tokens[span.slots_N, span.places_N]
        rows = _handed(span, ids_N, starts_S1, wanted)
        logits = self._step.run(rows, self.slots.blocks, self.cache.latents_ZGPW, lines, states_ND=states_ND)
        return Logits(logits, of_sample, span, states_ND)

    def guess(self, span: Span, ids_N: Ints, before_ND: Tensor, wanted: Wanted) -> Ints:
        """As Runner.guess."""
        assert self._predictor is not None
        lasts = span.lasts()
        rows = _handed(span, ids_N, np.concatenate((as_rows([0]), lasts + 1)), lasts)
        cache = self.cache.latents_ZGPW[-1:]
        return self._predictor.guess(rows, self.slots.blocks, cache, before_ND.contiguous(), wanted)

    def turns(self, gap: int) -> NativeTurns:
        """Decoding over the slots' arrays."""
        pool, latents = self.cache.pool, self.cache.latents_ZGPW
        return NativeTurns(self._step, self._predictor, self.slots, pool.references, latents, gap)

    def _rows(self, plan: Plan) -> tuple[Span, Ints]:
        stretches = plan.stretches()
        slots_S = np.concatenate((plan.decode, stretches[:, 0]))
        first_S = np.concatenate((self.slots.computed[plan.decode], stretches[:, 1]))
        sizes_S = np.concatenate((np.ones(len(plan.decode), np.int64), stretches[:, 2] - stretches[:, 1]))
        starts_S1 = np.concatenate((as_rows([0]), np.cumsum(sizes_S)))
        slots_N = np.repeat(slots_S, sizes_S)
        places_N = np.arange(starts_S1[-1]) + np.repeat(first_S - starts_S1[:-1], sizes_S)
        return Span(slots_N, places_N), starts_S1


def _handed(span: Span, ids_N: Ints, starts_S1: Ints, wanted: Ints) -> Rows:
    outputs_N = np.full(len(ids_N), -1, np.int64)
    outputs_N[wanted] = np.arange(len(wanted))
    return Rows(ids_N, span.places_N, starts_S1, span.slots_N[starts_S1[:-1]], outputs_N)
