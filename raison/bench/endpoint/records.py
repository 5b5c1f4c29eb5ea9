"""What passes between the parts of `raison bench endpoint`: Ask -> Exchange -> Heard -> Measured.

Times are seconds of one monotonic clock. An Exchange is what the network brought, unread: it is read after the
measurement, so that reading delays no time stamp. Not covered: how any of them is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raison.records import Problem

WHOLE, STOPPED = "whole", "stopped"
"""Outcomes: the answer came to its end; the user ended the measurement. Every other outcome is a failure's name."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, made before the clock starts."""

    body: bytes
    prompt_tokens: int
    """In the common tokenizer, without what the server's chat template adds."""
    problem: Problem | None = None
    """Whose answer can be checked."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request as the network saw it."""

    scheduled: float
    """When it was due; in a closed loop, when it was sent."""
    sent: float
    """When it was handed to its connection; when it was begun or due, where it never came to that."""
    ended: float
    status: int
    """0 without an answer."""
    content_type: str
    reads: tuple[tuple[float, bytes], ...]
    """What each read brought, and when."""
    failure: str = ""
    """Why it ended before its end, in the transport's terms; empty where it did not."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that came at one moment; several events of one read are one piece."""

    at: float
    thinking: str
    answer: str


@dataclass(frozen=True, slots=True)
class Heard:
    """A stream, read."""

    outcome: str
    detail: str
    """Of a failure: the server's own words."""
    pieces: tuple[Piece, ...]
    events: int
    """Events that brought text: each holds at least one token."""
    finish: str
    usage: Mapping[str, Any] = field(default_factory=dict)
    """The server's own counts; empty where it gave none."""

    @property
    def thinking(self) -> str:
        return "".join(piece.thinking for piece in self.pieces)

    @property
    def answer(self) -> str:
        return "".join(piece.answer for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Served:
    """The server's own counts of one request; None where it does not tell."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One request's figures; a row of the CSV file. Seconds and tokens of the common tokenizer. None: not to be had."""

    outcome: str
    detail: str
    scheduled: float
    """Since the measurement of its cell began."""
    late: float
    """From when it was due until it was sent."""
    prompt_tokens: int
    thinking_tokens: int
    answer_tokens: int
    events: int
    finish: str
    served: Served
    end_to_end: float
    ttft: float | None = None
    ttfat: float | None = None
    output_speed: float | None = None
    """Tokens a second after the first piece."""
    itl: float | None = None
    """Mean time between tokens after the first piece: 1 / output_speed."""
    longest_gap: float | None = None
    response_500: float | None = None
    """Time to an answer of 500 tokens: ttfat + 500 / output_speed."""
    gaps: tuple[tuple[float, int], ...] = ()
    """Time since the piece before, and tokens it brought; for percentiles over tokens."""
    correct: bool | None = None
    """Where the answer was checked."""

    @property
    def whole(self) -> bool:
        return self.outcome == WHOLE

    @property
    def tokens(self) -> int:
        return self.thinking_tokens + self.answer_tokens
