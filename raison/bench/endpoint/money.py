"""What the answers cost at stated prices, and what a correct one costs.

Tokens are the server's own where it counts them, for that is what a bill has; else those of the common tokenizer, and
the result says which. Not covered: prices of cached tokens, discounts, a machine's own cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raison.bench.endpoint.records import Measured
from raison.serve.prices import NANO_PER_DOLLAR, Price
from raison.think.measure import Estimate

PARTS = (3, 1)
"""Input and output tokens of a blended price, as Artificial Analysis weighs them."""


def blended(price: Price) -> float:
    """Dollars per million tokens, three of input to one of output."""
    into, out = PARTS
    return (into * price.prompt + out * price.completion) / (into + out)


def tokens_of(row: Measured) -> tuple[int, int]:
    """Prompt and completion tokens as a bill would count them."""
    prompt, completion = row.served.prompt_tokens, row.served.completion_tokens
    return row.prompt_tokens if prompt is None else prompt, row.tokens if completion is None else completion


def dollars(row: Measured, price: Price) -> float:
    prompt, completion = tokens_of(row)
    return price.cost(prompt, 0, completion) / NANO_PER_DOLLAR


def bill(rows: Sequence[Measured], price: Price, accuracy: Estimate | None) -> dict[str, Any]:
    """Dollars in all and a request; with an accuracy, dollars per correct answer with the interval it implies.

    Requests that failed before any token are free; failures that came later cost what was counted of them.
    """
    paid = [row for row in rows if row.events]
    total = sum(dollars(row, price) for row in paid)
    counted = sum(row.served.completion_tokens is not None for row in paid)
    return {
        "price_in": price.prompt, "price_out": price.completion, "blended": blended(price), "total": total,
        "per_request": total / len(paid) if paid else None,
        "counted_by_server": counted, "counted_here": len(paid) - counted,
        "per_correct": None if accuracy is None else per_correct(total, accuracy),
    }  # fmt: skip


def per_correct(total: float, accuracy: Estimate) -> dict[str, float | None]:
    """A total shared by the correct answers. No correct answer has no price: value and high are then None."""

    def at(share: float) -> float | None:
        return total / (share * accuracy.count) if share > 0 else None

    return {"value": at(accuracy.value), "low": at(accuracy.high), "high": at(accuracy.low)}
