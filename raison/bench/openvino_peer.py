"""OpenVINO GenAI on a GGUF file, a rival of `raison bench engine`: with continuous batching, or as one padded batch.

Samples of one prompt are asked for as such, so that batching computes it once. Not covered: models converted for it
beforehand, its speculation.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai as genai

from raison.bench.rival import Timed, is_shared

CACHE_GB = 1


def _tensor(prompts: Sequence[Sequence[int]]) -> Any:
    return openvino.Tensor(np.asarray(prompts, np.int64))


def _config(tokens: int, temperature: float, samples: int = 1) -> Any:
    config = genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos, config.do_sample = tokens, True, temperature > 0
    config.num_return_sequences = samples
    if temperature > 0:
        config.temperature, config.top_p = temperature, 1.0
    return config


class Batching:
    def __init__(self, path: Path, threads: int, streams: int) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size, scheduler.max_num_seqs = CACHE_GB, streams
        settings = {"INFERENCE_NUM_THREADS": threads}
        self._pipeline = genai.ContinuousBatchingPipeline(str(path), scheduler, "CPU", settings)

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int, temperature: float) -> Timed:
        shared = temperature > 0 and is_shared(prompts)
        asked = prompts[:1] if shared else prompts
        config = _config(tokens, temperature, len(prompts) if shared else 1)
        inputs = [_tensor([prompt]) for prompt in asked]
        start = time.perf_counter()
        results = self._pipeline.generate(inputs, [config] * len(inputs))
        seconds = time.perf_counter() - start
        written = sum(len(ids) for result in results for ids in result.m_generation_ids)
        first = max(result.perf_metrics.get_ttft().mean for result in results) / 1000
        return _timed(written, tokens * len(prompts), seconds, first)

    def logits(self, ids: Sequence[int]) -> None:
        """It tells none."""

    def close(self) -> None:
        del self._pipeline


class Padded:
    def __init__(self, path: Path, threads: int, streams: int) -> None:
        self._pipeline = genai.LLMPipeline(str(path), "CPU", ATTENTION_BACKEND="SDPA", INFERENCE_NUM_THREADS=threads)

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int, temperature: float) -> Timed:
        inputs, config = _tensor(prompts), _config(tokens, temperature)
        start = time.perf_counter()
        result = self._pipeline.generate(inputs, config)
        seconds = time.perf_counter() - start
        written = sum(len(ids) for ids in result.tokens)
        return _timed(written, tokens * len(prompts), seconds, result.perf_metrics.get_ttft().mean / 1000)

    def logits(self, ids: Sequence[int]) -> None:
        """It tells none."""

    def close(self) -> None:
        del self._pipeline


def _timed(written: int, wanted: int, seconds: float, first: float) -> Timed:
    assert written == wanted, f"OpenVINO wrote {written} tokens instead of {wanted}"
    return Timed(written, seconds, first)
