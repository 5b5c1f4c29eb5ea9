"""A read stream into figures, by Artificial Analysis' definitions: pure arithmetic on recorded times.

Latencies count from when the request was due: in an open loop a late client is then seen in the figures and not hidden
("coordinated omission"). Output speed is (tokens - those of the first piece) / (last - first piece). Not covered: what
several requests say together (summary.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from raison.bench.endpoint.counting import Counter
from raison.bench.endpoint.records import Ask, Exchange, Heard, Measured, Piece, Served

ANSWER = 500
"""Answer tokens of Artificial Analysis' end-to-end response time."""


def measured(ask: Ask, exchange: Exchange, heard: Heard, counter: Counter, began: float) -> Measured:
    """One request's row; `began` is when its cell's measurement did."""
    thinking = counter.parts([piece.thinking for piece in heard.pieces])
    answer = counter.parts([piece.answer for piece in heard.pieces])
    tokens = [a + b for a, b in zip(thinking, answer, strict=True)]
    due = exchange.scheduled
    return Measured(
        outcome=heard.outcome, detail=heard.detail, scheduled=due - began, late=exchange.sent - due,
        prompt_tokens=ask.prompt_tokens, thinking_tokens=sum(thinking), answer_tokens=sum(answer),
        events=heard.events, finish=heard.finish, served=served(heard.usage), end_to_end=exchange.ended - due,
        **_paces(heard.pieces, tokens, due),
    )  # fmt: skip


def _paces(pieces: Sequence[Piece], tokens: Sequence[int], due: float) -> dict[str, Any]:
    """Every figure that needs the times of pieces."""
    if not pieces:
        return {}
    answered = next((piece.at for piece in pieces if piece.answer), None)
    speed = output_speed([piece.at for piece in pieces], tokens)
    ttfat = None if answered is None else answered - due
    between = [after.at - before.at for before, after in pairwise(pieces)]
    return {
        "ttft": pieces[0].at - due,
        "ttfat": ttfat,
        "output_speed": speed,
        "itl": None if speed is None else 1 / speed,
        "longest_gap": max(between, default=None),
        "response_500": None if speed is None or ttfat is None else ttfat + ANSWER / speed,
        "gaps": gaps([piece.at for piece in pieces], tokens),
    }


def output_speed(at: Sequence[float], tokens: Sequence[int]) -> float | None:
    """Tokens a second after the first piece; None where nothing came after it."""
    later, span = sum(tokens[1:]), at[-1] - at[0]
    return later / span if later and span > 0 else None


def gaps(at: Sequence[float], tokens: Sequence[int]) -> tuple[tuple[float, int], ...]:
    """Time between pieces that completed a token, and how many tokens each completed."""
    marks = [(when, count) for when, count in zip(at, tokens, strict=True) if count]
    return tuple((after - before, count) for (before, _), (after, count) in pairwise(marks))


def served(usage: Mapping[str, Any]) -> Served:
    """The counts of OpenAI's `usage`, as far as they are numbers."""

    def number(of: Any, name: str) -> int | None:
        value = of.get(name) if isinstance(of, Mapping) else None
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    return Served(
        prompt_tokens=number(usage, "prompt_tokens"),
        cached_tokens=number(usage.get("prompt_tokens_details"), "cached_tokens"),
        completion_tokens=number(usage, "completion_tokens"),
        reasoning_tokens=number(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )
