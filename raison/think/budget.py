"""What a budget means to the engine: thinking tokens of a model that thinks, answer tokens of one that does not.

Sampling is unfiltered: top-k or top-p would bias the importance ratio by the mass they cut. Not covered: budgets of a
conversation with a person (reasoner.py).
"""

from __future__ import annotations

from raison.engine.sequence import SamplingParams

ANSWER_TOKENS = 32


def completion_limit(budget: int, thinks: bool = True) -> int:
    """Most tokens of a completion: the thoughts, the closing tag and the answer; or the answer alone."""
    return budget + 1 + ANSWER_TOKENS if thinks else max(budget, 1)


def sampling(budget: int, temperature: float, seed: int, thinks: bool = True) -> SamplingParams:
    limit = completion_limit(budget, thinks)
    return SamplingParams(
        temperature=temperature, thinking_budget=budget if thinks else None,
        answer_tokens=ANSWER_TOKENS if thinks else limit, max_tokens=limit, seed=seed,
    )  # fmt: skip
