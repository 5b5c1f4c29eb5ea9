"""The seam to turns of decoding in native code (turn.hpp): the batch's arrays never move and are handed over once.

Not covered: which slots are ripe for it (engine/turns.py).
"""

from __future__ import annotations

import ctypes
import time

import numpy as np
import torch
from torch import Tensor

from raison.engine.kernels.native import POINTER, NativeStep, StepArguments, address, fields
from raison.engine.slots import Ints, Slots

PATIENCE = 0.002
"""Seconds after which a call begins no other turn."""
COLUMNS = (
    "tokens logprobs pages prompt_length budget answer_limit max_tokens length computed drafts unfed followed "
    "closed_at temperature limits min_tokens min_thinking bias_count bias_ids bias_values "
    "key first_token forced endless"
)
"""Of slots.py, in the order of batch.hpp."""


class _Batch(ctypes.Structure):
    _fields_ = (
        *fields(POINTER, f"{COLUMNS} references endings"),
        *fields(ctypes.c_int64, "stride stop_count"),
    )


class _Turns(ctypes.Structure):
    _fields_ = (
        ("batch", _Batch), ("step", StepArguments), ("module", StepArguments),
        *fields(ctypes.c_int64, "width gap"),
        *fields(POINTER, "slots"),
        *fields(ctypes.c_int64, "rows most depth strict"),
        *fields(ctypes.c_double, "now patience"),
        *fields(POINTER, "counts states"),
        *fields(ctypes.c_int64, "sampled guessed"),
    )  # fmt: skip


class NativeTurns:
    """`counts` and `states` tell of each row what the last call brought; `sampled` and `guessed` of all of them."""

    def __init__(
        self,
        step: NativeStep,
        module: tuple[NativeStep, Tensor] | None,
        slots: Slots,
        references: Ints,
        cache_ZGPM: Tensor,
        gap: int,
    ) -> None:
        """`module`: an MTP module or a draft model, and its own layers of cache."""
        self.counts, self.states = np.zeros(slots.capacity, np.int64), np.zeros(slots.capacity, np.int64)
        self._call, self._kept = step.library.raison_turns, (step, module, slots, references, cache_ZGPM)
        self._models = step.handle, None if module is None else module[0].handle
        caches = cache_ZGPM, cache_ZGPM if module is None else module[1]
        steps = (StepArguments.of(slots.blocks, latents) for latents in caches)
        self._order = _Turns(
            _columns(slots, references), *steps, step.width, gap, patience=PATIENCE,
            counts=address(self.counts), states=address(self.states),
        )  # fmt: skip

    @property
    def sampled(self) -> int:
        return int(self._order.sampled)

    @property
    def guessed(self) -> int:
        return int(self._order.guessed)

    def take(self, rows: Ints, most: int, depth: int, strict: bool) -> int:
        """How many turns were taken; 0 where a row lacks what it needs, -1 where logits are not finite."""
        order = self._order
        order.slots, order.rows, order.most, order.depth, order.strict = address(rows), len(rows), most, depth, strict
        order.step.threads = order.module.threads = torch.get_num_threads()
        order.now = time.perf_counter()
        taken: int = self._call(*self._models, ctypes.byref(order))
        return taken


def _columns(slots: Slots, references: Ints) -> _Batch:
    columns = {name: address(getattr(slots, name)) for name in COLUMNS.split()}
    return _Batch(
        **columns,
        references=address(references),
        endings=address(slots.endings),
        stride=slots.tokens.shape[1],
        stop_count=len(slots.stops),
    )
