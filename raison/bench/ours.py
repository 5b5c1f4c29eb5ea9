"""Our engine as one of the runners of `raison bench engine`: nothing ends a text, no prompt is remembered."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from raison.bench.rival import Timed, is_shared
from raison.engine.engine import Engine
from raison.engine.sequence import SamplingParams
from raison.engine.settings import EngineSettings
from raison.engine.twin import Dtype
from raison.weights.opened import LoadedModel

SPARE = 32
"""Tokens of cache beyond a stream's own: its last page is seldom full."""


class Ours:
    def __init__(self, loaded: LoadedModel, dtype: Dtype, streams: int, context: int) -> None:
        room = (context + SPARE) * streams + 2 * SPARE
        self._engine = Engine(
            loaded.model, loaded.tokenizer, EngineSettings(cache_tokens=room, max_batch=streams, dtype=dtype)
        )

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int, temperature: float) -> Timed:
        self._engine.update_weights()  # forgets cached prompts
        params = [
            SamplingParams(temperature=temperature, max_tokens=tokens, answer_tokens=tokens, ignore_eos=True, seed=i)
            for i in range(len(prompts))
        ]
        start = time.perf_counter()
        if is_shared(prompts):
            groups = self._engine.generate([prompts[0]], params[0], n=len(prompts))
        else:
            groups = self._engine.generate(list(prompts), params)
        seconds = time.perf_counter() - start
        found = [completion for group in groups for completion in group]
        first = max(completion.first_token_seconds for completion in found)
        return Timed(sum(len(completion.token_ids) for completion in found), seconds, first)

    def logits(self, ids: Sequence[int]) -> torch.Tensor | None:
        return self._engine.score(ids)

    def close(self) -> None:
        pass
