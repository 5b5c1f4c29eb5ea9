"""vLLM on a Hugging Face folder, a rival of `raison bench engine`. UNMEASURED: written by its documentation.

The machine on which the others were measured cannot run it; a test holds this module to a stand-in of the documented
interface and to nothing more. Samples of one prompt are asked for as such. Not covered: quantised weights, its server.

Source: vLLM's documentation of LLM, SamplingParams and TokensPrompt (offline inference).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import vllm

from raison.bench.rival import Timed, is_shared

MARGIN = 16


class Vllm:
    def __init__(self, folder: Path, dtype: str, streams: int, context: int) -> None:
        self._llm: Any = vllm.LLM(
            model=str(folder), dtype=dtype, max_num_seqs=streams, max_model_len=context + MARGIN,
            enable_prefix_caching=False,
        )  # fmt: skip

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int, temperature: float) -> Timed:
        shared = temperature > 0 and is_shared(prompts)
        asked = prompts[:1] if shared else prompts
        params = vllm.SamplingParams(
            n=len(prompts) if shared else 1, temperature=temperature, max_tokens=tokens, ignore_eos=True,
            detokenize=False,
        )  # fmt: skip
        inputs = [vllm.TokensPrompt(prompt_token_ids=list(prompt)) for prompt in asked]
        start = time.perf_counter()
        results = self._llm.generate(inputs, params, use_tqdm=False)
        seconds = time.perf_counter() - start
        written = sum(len(one.token_ids) for result in results for one in result.outputs)
        assert written == tokens * len(prompts), f"vLLM wrote {written} tokens instead of {tokens * len(prompts)}"
        return Timed(written, seconds, seconds if tokens == 1 else float("nan"))

    def logits(self, ids: Sequence[int]) -> None:
        """It tells those of the likeliest tokens alone."""

    def close(self) -> None:
        del self._llm
