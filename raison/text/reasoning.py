"""Generated ids, one at a time, into text that may be shown: thinking apart from answer, stop strings honoured.

What a client sees must be exact at every moment: a character whose bytes stand in several tokens is held back until
it is whole, and so is the beginning of a possible stop string. Stop strings sleep while the model thinks; a thought
that quotes one ends nothing. Only the first `</think>` closes the thinking, a second one is plain text of the answer.
The pieces of a sequence, joined, are its thinking and its answer to the letter. Byte-level vocabularies only (a
token's text must not depend on its neighbours). Not covered: tool calls, grammars.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

BROKEN = "\ufffd"


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that became certain, and the side of `</think>` it stands on. The tag itself is on neither."""

    text: str
    thinking: bool


class ReasoningStream:
    """One sequence's text. `stopped` turns true when a stop string was completed; the answer ends before it."""

    def __init__(
        self, decode: Callable[[Sequence[int]], str], think_close: int, thinking: bool, stop: Sequence[str] = ()
    ) -> None:
        self.thinking = thinking
        self.stopped = False
        self._decode = decode
        self._close = think_close
        self._stop = tuple(stop)
        self._pending: list[int] = []
        self._held = ""

    def push(self, token: int) -> Piece:
        """Take the next id; what it makes certain, perhaps nothing."""
        if self.thinking and token == self._close:
            piece = self.finish()
            self.thinking = False
            return piece
        self._pending.append(token)
        text = self._decode(self._pending)
        if text.endswith(BROKEN):  # perhaps half a character
            return Piece("", self.thinking)
        self._pending.clear()
        return self._release(text)

    def finish(self) -> Piece:
        """The sequence has ended (or its thinking has): what was held back, broken characters included."""
        last = self._release(self._decode(self._pending)).text if self._pending else ""
        piece = Piece(last + self._held, self.thinking)
        self._pending.clear()
        self._held = ""
        return piece

    def _release(self, text: str) -> Piece:
        if self.thinking or not self._stop:
            return Piece(text, self.thinking)
        if self.stopped:
            return Piece("", False)
        text = self._held + text
        cut = first_stop(text, self._stop)
        self.stopped = cut is not None
        keep = len(text) - _overlap(text, self._stop) if cut is None else cut
        self._held = "" if self.stopped else text[keep:]
        return Piece(text[:keep], False)


def first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the earliest stop string begins in `text`; None when there is none."""
    found = [at for at in map(text.find, stop) if at >= 0]
    return min(found, default=None)


def _overlap(text: str, stop: Sequence[str]) -> int:
    """Length of the longest end of `text` that could be the beginning of a stop string."""
    longest = max(map(len, stop)) - 1
    ends = (text[-n:] for n in range(min(longest, len(text)), 0, -1))
    return next((len(end) for end in ends if any(s.startswith(end) for s in stop)), 0)
