"""An Exchange into what was said and when: thinking apart from answer, the server's counts, how it failed if it did.

Thinking is read from `reasoning_content` (DeepSeek, llama.cpp, SGLang), else from `reasoning` (vLLM, OpenRouter), else
from the text before `</think>`; a server that sends both fields says the same twice, and one counts. Not covered: tool
calls, more than one choice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from raison.bench.endpoint.events import events
from raison.bench.endpoint.records import WHOLE, Exchange, Heard, Piece
from raison.endpoint import THINK_CLOSE, THINK_OPEN

DETAIL = 200
"""Characters of a server's complaint that are kept."""
DONE = "[DONE]"
NO_STREAM, CUT, EMPTY, BROKEN, REPORTED = (
    "no event stream", "cut off", "no text", "malformed event", "error in the stream"
)  # fmt: skip


def read(exchange: Exchange) -> Heard:
    """Never raises: whatever a server sends is an outcome."""
    refused = _refused(exchange)
    if refused:
        return Heard(*refused, (), 0, "")
    stream = _Stream()
    for at, data in events(exchange.reads):
        stream.take(at, data)
    pieces = _parted(_joined(stream.pieces))
    outcome, detail = stream.failed or _ended(exchange, stream, pieces)
    return Heard(outcome, detail, pieces, len(stream.pieces), stream.finish, stream.usage)


def _refused(exchange: Exchange) -> tuple[str, str] | None:
    """Outcome and detail where no stream came at all."""
    said = b"".join(data for _, data in exchange.reads)[: 4 * DETAIL].decode("utf-8", "replace")[:DETAIL]
    if not exchange.status:
        return exchange.failure or CUT, ""
    if exchange.status != 200:
        return f"HTTP {exchange.status}", said
    if exchange.content_type != "text/event-stream":
        return exchange.failure or NO_STREAM, f"{exchange.content_type}: {said}"
    return None


def _ended(exchange: Exchange, stream: _Stream, pieces: Sequence[Piece]) -> tuple[str, str]:
    """How a stream without complaints ended. One that lacks both its finish reason and [DONE] was cut off."""
    if exchange.failure:
        return exchange.failure, ""
    if not (stream.done or stream.finish):
        return CUT, f"after {len(stream.pieces)} events"
    return (WHOLE, "") if pieces else (EMPTY, f"finish_reason {stream.finish or 'missing'}")


class _Stream:
    """One stream's events, taken in order; what comes after [DONE] or after an error is not looked at."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.usage: Mapping[str, Any] = {}
        self.finish = ""
        self.done = False
        self.failed: tuple[str, str] | None = None

    def take(self, at: float, data: str) -> None:
        self.done = self.done or data.strip() == DONE
        if self.done or self.failed:
            return
        try:
            self._event(at, json.loads(data))
        except (ValueError, TypeError, AttributeError, RecursionError):  # no JSON, or of another shape than the API's
            self.failed = (BROKEN, data[:DETAIL])

    def _event(self, at: float, event: Mapping[str, Any]) -> None:
        if event.get("error"):
            self.failed = (REPORTED, json.dumps(event["error"])[:DETAIL])
            return
        self.usage = dict(event.get("usage") or self.usage)
        for choice in event.get("choices") or ():
            self.finish = str(choice.get("finish_reason") or self.finish)
            delta = choice.get("delta") or {}
            piece = Piece(at, _text(delta, "reasoning_content") or _text(delta, "reasoning"), _text(delta, "content"))
            if piece.thinking or piece.answer:
                self.pieces.append(piece)


def _text(delta: Mapping[str, Any], name: str) -> str:
    """Empty where there is none. Raises TypeError for what is no text."""
    value = delta.get(name) or ""
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Pieces of one moment as one."""
    groups = (list(group) for _, group in groupby(pieces, key=lambda piece: piece.at))
    return [
        Piece(group[0].at, "".join(p.thinking for p in group), "".join(p.answer for p in group)) for group in groups
    ]


def _parted(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """The same with the thinking told apart where the server left its tags in the text.

    The first `</think>` closes; without one, a text that begins with `<think>` is all thinking. The tags are on neither
    side, and a piece that is only a tag is none.
    """
    text = "".join(piece.answer for piece in pieces)
    opens, close = text.lstrip().startswith(THINK_OPEN), text.find(THINK_CLOSE)
    if any(piece.thinking for piece in pieces) or not (opens or close >= 0):
        return tuple(pieces)
    begin = text.index(THINK_OPEN) + len(THINK_OPEN) if opens else 0
    end = close if close >= 0 else len(text)
    return tuple(_cut(pieces, begin, end))


def _cut(pieces: Sequence[Piece], begin: int, end: int) -> Iterable[Piece]:
    """Thinking is the letters from `begin` to `end` of the joined text, the answer what follows the tag at `end`."""
    at = 0
    for piece in pieces:
        text = piece.answer
        thinking = text[max(0, begin - at) : max(0, end - at)]
        answer = text[max(0, end + len(THINK_CLOSE) - at) :]
        at += len(text)
        if thinking or answer:
            yield Piece(piece.at, thinking, answer)
