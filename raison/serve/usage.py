"""The books: one row for each answered request, written once, and reports over them with cost.

Not covered: what a key has left (limits.py, ledger.py); requests that were refused, which cost nothing and are counted
in the server's metrics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from raison.errors import UserError
from raison.serve.prices import Prices
from raison.serve.schema import KEYS, USAGE, insert_once

TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
GROUPS: Mapping[str, ColumnElement[str]] = {
    "key": func.coalesce(KEYS.c.name, USAGE.c.key), "id": USAGE.c.key, "model": USAGE.c.model,
    "endpoint": USAGE.c.endpoint, "day": USAGE.c.day,
}  # fmt: skip
"""What a report may be grouped by; a key as its name, days as of UTC."""


@dataclass(frozen=True, slots=True)
class Used:
    """One answered request, cancelled ones that sampled tokens included.

    `prompt_tokens` includes `cached_tokens`; `completion_tokens` includes `reasoning_tokens` and all branches. Times
    are seconds since the request arrived; NaN where no token came.
    """

    request: str
    """Unique, such as `chatcmpl-...`: what makes billing twice impossible."""
    key: str
    model: str
    endpoint: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    branches: int
    finish: str
    seconds: float
    first_token_seconds: float

    def __post_init__(self) -> None:
        assert 0 <= self.cached_tokens <= self.prompt_tokens, "cached tokens are part of the prompt's"
        assert 0 <= self.reasoning_tokens <= self.completion_tokens, "reasoning tokens are part of the completion's"

    @property
    def tokens(self) -> int:
        """What counts against a quota."""
        return self.prompt_tokens + self.completion_tokens


def cost_of(used: Used, prices: Prices) -> int | None:
    """Nano-dollars; None for a model without a price."""
    price = prices.of(used.model)
    return None if price is None else price.cost(used.prompt_tokens, used.cached_tokens, used.completion_tokens)


def record(connection: Connection, used: Used, cost: int | None, now: float) -> bool:
    """Write the row; returns False, with nothing written, where the request is in the books already."""
    row = asdict(used)
    for name in ("seconds", "first_token_seconds"):
        row[name] = row[name] if math.isfinite(row[name]) else None
    day = datetime.fromtimestamp(now, UTC).date().isoformat()
    return insert_once(connection, USAGE, row | {"at": now, "day": day, "cost": cost})


@dataclass(frozen=True, slots=True)
class Line:
    """Sums over the requests of one group, named by the values of `by` in the report's order."""

    group: tuple[str, ...]
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost: int | None
    """Nano-dollars; None where no model of the group had a price."""
    unpriced: int
    """Requests whose model had no price, and which `cost` leaves out."""


def report(connection: Connection, by: Sequence[str], since: date | None = None) -> list[Line]:
    """Sums by `by`, in its order, of GROUPS."""
    groups = [GROUPS[name] for name in by]
    sums = [func.sum(USAGE.c[name]) for name in TOKENS]
    query = select(*groups, func.count(), *sums, func.sum(USAGE.c.cost), func.count() - func.count(USAGE.c.cost))
    query = query.select_from(USAGE.outerjoin(KEYS, KEYS.c.id == USAGE.c.key)).group_by(*groups).order_by(*groups)
    if since is not None:
        query = query.where(USAGE.c.day >= since.isoformat())
    return [_line(tuple(row), len(by)) for row in connection.execute(query) if row[len(by)]]


def since_of(text: str, today: date) -> date:
    """`2026-11-01`, or `7d` for the last seven days, today among them. Raises UserError."""
    if text.endswith("d") and text[:-1].isdecimal() and 0 < int(text[:-1]) <= 100_000:
        return today - timedelta(days=int(text[:-1]) - 1)
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UserError(f'"{text}" is no day; write 2026-11-01, or 7d for the last seven days') from error


def _line(row: tuple[Any, ...], groups: int) -> Line:
    """PostgreSQL sums whole numbers as Decimal, so each is made whole again."""
    numbers = [None if value is None else int(value) for value in row[groups:]]
    return Line(tuple(row[:groups]), *numbers)  # type: ignore[arg-type]
