"""What a measurement of an engine is, ours or a rival's, and rivals that need no module of their own.

transformers generates greedily in one padded batch, in the better of fp32 and bf16, without sampling its distribution:
if anything that favours it. Not covered: rivals that run as servers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from raison.errors import UserError


@dataclass(frozen=True, slots=True)
class Timed:
    """One run: tokens that were written, seconds from the prompts to the last, and to the first (NaN: not told)."""

    tokens: int
    seconds: float
    first_seconds: float

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds

    def later_rate(self, streams: int) -> float:
        """Tokens a second after the first of each stream."""
        return (self.tokens - streams) / (self.seconds - self.first_seconds)


def is_shared(prompts: Sequence[Sequence[int]]) -> bool:
    """Whether all are one prompt: the same object, not merely equal."""
    return all(prompt is prompts[0] for prompt in prompts)


class Rival(Protocol):
    def generate(self, prompts: Sequence[Sequence[int]], tokens: int, temperature: float) -> Timed:
        """So many tokens after each prompt, all prompts at once; the same object twice is one prompt."""
        ...

    def logits(self, ids: Sequence[int]) -> torch.Tensor | None:
        """After each of `ids`, [tokens, vocabulary]; None where the rival does not tell."""
        ...

    def close(self) -> None: ...


class Transformers:
    """A Hugging Face folder in transformers."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        try:
            import transformers  # an extra
        except ImportError:
            raise UserError("transformers is not installed: pip install 'raison[peers]'") from None
        transformers.utils.logging.set_verbosity_error()
        self._model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int, temperature: float) -> Timed:
        longest = max(map(len, prompts))
        ids = torch.tensor([[*[0] * (longest - len(p)), *p] for p in prompts])
        mask = torch.tensor([[*[0] * (longest - len(p)), *[1] * len(p)] for p in prompts])
        start = time.perf_counter()
        with torch.inference_mode():
            self._model.generate(
                ids, attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=temperature > 0,
                temperature=temperature or None, top_k=0, pad_token_id=0,
            )  # fmt: skip
        seconds = time.perf_counter() - start
        return Timed(tokens * len(prompts), seconds, seconds if tokens == 1 else float("nan"))

    def logits(self, ids: Sequence[int]) -> torch.Tensor | None:
        with torch.inference_mode():
            found: torch.Tensor = self._model(torch.tensor([list(ids)])).logits[0]
        return found

    def close(self) -> None:
        self._model = None
