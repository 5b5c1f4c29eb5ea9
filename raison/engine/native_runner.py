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
        self._width, self._last_id = model.spec.hidden_size, model.spec.vocab_size - 1
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
        span = self._rows(plan)
        self._last_row[span.slots_N] = np.arange(len(span.slots_N))  # a slot's last row is written last
        first = self._last_row[sources] + 1 - widths
        lines = int(widths.sum())
        wanted = np.arange(lines) + np.repeat(first - (np.cumsum(widths) - widths), widths)
        states_ND = torch.empty(len(span.slots_N), self._width) if self._predictor is not None else None
        ids_N = self.slots.tokens[span.slots_N, span.places_N]
        rows = _handed(span, ids_N, wanted)
        logits = self._step.run(rows, self.slots.blocks, self.cache.latents_ZGPM, lines, states_ND=states_ND)
        return Logits(logits, of_sample, span, states_ND)

    def guess(self, span: Span, ids_N: Ints, before_ND: Tensor | None, wanted: Wanted) -> Ints:
        """As Runner.guess."""
        rows = _handed(span, np.minimum(ids_N, self._last_id), span.lasts())
        guesser, cache = self._guesser
        return guesser.guess(rows, self.slots.blocks, cache, before_ND, wanted)

    def turns(self, draft: NativeRunner | None, gap: int) -> NativeTurns:
        """Decoding over the slots' arrays, with guesses of the draft model or of the MTP module if there is one."""
        module = draft._guesser if draft is not None else self._guesser if self._predictor is not None else None
        return NativeTurns(self._step, module, self.slots, self.cache.pool.references, self.cache.latents_ZGPM, gap)

    @property
    def _guesser(self) -> tuple[NativeStep, Tensor]:
        """Who guesses, and its cache: the MTP module, whose layer is the last; else the whole model, as a draft."""
        latents_ZGPM = self.cache.latents_ZGPM
        return (self._step, latents_ZGPM) if self._predictor is None else (self._predictor, latents_ZGPM[-1:])

    def _rows(self, plan: Plan) -> Span:
        stretches, computed = plan.stretches(), self.slots.computed[plan.decode]
        slots_S, first_S, stop_S = (
            np.concatenate(parts) for parts in zip((plan.decode, computed, computed + 1), stretches.T, strict=True)
        )
        return Span.of(slots_S, first_S, stop_S)


def _handed(span: Span, ids_N: Ints, wanted: Ints) -> Rows:
    starts_S1 = np.concatenate((as_rows([0]), span.lasts() + 1))
    outputs_N = np.full(len(ids_N), -1, np.int64)
    outputs_N[wanted] = np.arange(len(wanted))
    return Rows(ids_N, span.places_N, starts_S1, span.slots_N[starts_S1[:-1]], outputs_N)
