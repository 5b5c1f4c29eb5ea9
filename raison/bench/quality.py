"""Perplexity on a fixed passage, so that a figure of speed says what it was paid with.

The passage is the beginning of Lewis Carroll's Alice's Adventures in Wonderland (1865), in the public domain. Not
covered: accuracy on tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

PASSAGE = Path(__file__).with_name("passage.txt").read_text(encoding="utf-8")


def perplexity(logits_NY: Tensor, ids: Sequence[int]) -> float:
    """e to the mean of -log p of every token but the first, from the logits after each."""
    logp_NY = logits_NY[:-1].double().log_softmax(-1)
    return float((-logp_NY.gather(1, torch.tensor(ids[1:]).unsqueeze(1)).mean()).exp())
