"""What tokens cost: dollars a million, by model, as prices.toml says; and an answer's cost in whole nano-dollars.

    [default]                    # any model without a table of its own
    prompt = 0.55                # $ per million tokens that were computed
    cached = 0.14                # $ per million that came from the prefix cache; the price of prompt where left out
    completion = 2.19            # $ per million sampled: thinking, answer, and every branch of a vote

    [model."countdown-r1"]
    prompt = 0.07
    completion = 0.28

A cost is fixed when the answer is recorded; prices that change later change no bill. Without a price there is no cost,
which is not the same as a cost of nothing. Not covered: other currencies, prices by the time of day.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from raison.config.table import parse
from raison.errors import UserError

NANO_PER_DOLLAR = 1_000_000_000
NANO_PER_TOKEN = NANO_PER_DOLLAR // 1_000_000
"""Nano-dollars a token costs at $1 per million tokens."""


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens; `cached` None = as `prompt`."""

    prompt: float
    completion: float
    cached: float | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "completion", "cached"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UserError(f"{name} is {value}; a price is a number of dollars, 0 or more")

    @property
    def of_cached(self) -> float:
        return self.prompt if self.cached is None else self.cached

    def cost(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> int:
        """Nano-dollars, rounded once, half up. `prompt_tokens` includes `cached_tokens`.

        The written decimals are taken as they stand (a float's shortest form), so that there is no binary rounding.
        """
        parts = (
            (prompt_tokens - cached_tokens, self.prompt),
            (cached_tokens, self.of_cached),
            (completion_tokens, self.completion),
        )
        exact = sum((tokens * Decimal(str(price)) for tokens, price in parts), Decimal(0)) * NANO_PER_TOKEN
        return int(exact.to_integral_value(ROUND_HALF_UP))


@dataclass(frozen=True)
class Prices:
    """The price list: a table for each model, and one for all others."""

    default: Price | None = None
    model: dict[str, Price] = field(default_factory=dict)

    def of(self, model: str) -> Price | None:
        return self.model.get(model, self.default)


def read_prices(path: Path) -> Prices:
    """The list in `path`; an empty one where there is no such file. Raises UserError that names the place."""
    if not path.exists():
        return Prices()
    try:
        return parse(Prices, tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
