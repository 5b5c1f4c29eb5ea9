"""llama.cpp through llama-cpp-python's C interface, a rival of `raison bench engine`: parallel sequences of one batch.

Each sequence has its own sampler (temperature, then a draw from the whole distribution). A shared prompt is computed
once and copied to the other sequences; others are computed together, as many tokens at a time as a batch holds. Not
covered: its server, speculation.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import torch

from raison.bench.rival import Timed, is_shared

_SILENT: Any = llama_cpp.llama_log_callback(lambda level, text, data: None)
"""Kept alive by the module, as long as llama.cpp may call it."""
BATCH, PHYSICAL = 2048, 512
"""Tokens that are handed over at once, and of these computed at once."""
MARGIN = 16
QUANTS = {"Q4_0": 2, "Q4_1": 3, "Q8_0": 7}
"""llama_ftype of whole files."""


def quantised(source: Path, quant: str, folder: Path) -> Path:
    """A file of that quantisation beside others in `folder`, made by llama.cpp itself where it is not there."""
    llama_cpp.llama_log_set(_SILENT, None)
    out = folder / f"{source.stem}.{quant}.gguf"
    if not out.exists():
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype, params.allow_requantize = QUANTS[quant], True
        failed = llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params))
        assert failed == 0, f"llama.cpp could not write {out}"
    return out


class LlamaCpp:
    """One model in one context of `streams` sequences. Use `close` when done."""

    def __init__(self, path: Path, threads: int, streams: int, context: int) -> None:
        llama_cpp.llama_backend_init()
        llama_cpp.llama_log_set(_SILENT, None)
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch = (context + MARGIN) * streams, BATCH, PHYSICAL
        settings.n_seq_max, settings.n_threads, settings.n_threads_batch = streams, threads, threads
        if hasattr(settings, "kv_unified"):
            settings.kv_unified = True  # what lets sequences share a prompt's cells
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, streams)

    def close(self) -> None:
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int, temperature: float) -> Timed:
        """`tokens` of each prompt, all at once; equal prompts are computed once."""
        llama_cpp.llama_memory_clear(self._memory, True)
        samplers = [self._sampler(temperature, i) for i in range(len(prompts))]
        start = time.perf_counter()
        first = self._shared(prompts[0], samplers) if is_shared(prompts) else self._prefill(prompts, samplers)
        first_seconds = time.perf_counter() - start
        self._decode(first, [len(prompt) for prompt in prompts], samplers, tokens - 1)
        seconds = time.perf_counter() - start
        for sampler in samplers:
            llama_cpp.llama_sampler_free(sampler)
        return Timed(tokens * len(prompts), seconds, first_seconds)

    def logits(self, ids: Sequence[int]) -> torch.Tensor | None:
        llama_cpp.llama_memory_clear(self._memory, True)
        size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        at = self._run([(0, place, token, True) for place, token in enumerate(ids)])
        rows = [np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context, i), (size,)).copy() for i in at]
        return torch.from_numpy(np.stack(rows))

    def _sampler(self, temperature: float, seed: int) -> Any:
        chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_temp(temperature))
        llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_dist(seed))
        return chain

    def _shared(self, prompt: Sequence[int], samplers: Sequence[Any]) -> list[int]:
        """One prompt for all sequences; the first token of each."""
        first = self._prefill([prompt], samplers[:1])
        last = (len(prompt) - 1) % BATCH
        for i, sampler in enumerate(samplers[1:], start=1):
            llama_cpp.llama_memory_seq_cp(self._memory, 0, i, -1, -1)
            first.append(llama_cpp.llama_sampler_sample(sampler, self._context, last))
        return first

    def _prefill(self, prompts: Sequence[Sequence[int]], samplers: Sequence[Any]) -> list[int]:
        """Every prompt into its own sequence; the first token of each, in their order."""
        rows = [(i, place, token, place + 1 == len(p)) for i, p in enumerate(prompts) for place, token in enumerate(p)]
        first = []
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            for at in self._run(some):
                first.append(llama_cpp.llama_sampler_sample(samplers[some[at][0]], self._context, at))
        return first

    def _decode(self, tokens: list[int], places: list[int], samplers: Sequence[Any], steps: int) -> None:
        for _ in range(steps):
            rows = [(i, places[i], token, True) for i, token in enumerate(tokens)]
            at = self._run(rows)
            tokens = [llama_cpp.llama_sampler_sample(s, self._context, i) for s, i in zip(samplers, at, strict=True)]
            places = [place + 1 for place in places]

    def _run(self, rows: Sequence[tuple[int, int, int, bool]]) -> list[int]:
        batch = self._batch
        batch.n_tokens = len(rows)
        for k, (sequence, place, token, wanted) in enumerate(rows):
            batch.token[k], batch.pos[k], batch.n_seq_id[k], batch.logits[k] = token, place, 1, wanted
            batch.seq_id[k][0] = sequence
        failed = llama_cpp.llama_decode(self._context, batch)
        assert failed == 0, f"llama_decode returned {failed}"
        return [k for k, row in enumerate(rows) if row[3]]
