"""A branch's answer parted into text and calls of tools, however it comes. What looks like a call and is none is text.

Not covered: what a call looks like (tool_forms.py), and calls inside the thinking, which are thoughts.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from raison.serve.tool_forms import ToolForm


class ToolText:
    """One branch's answer as it comes. Blanks that stand alone before, between or behind calls are no text."""

    def __init__(self, form: ToolForm, most: int | None = None) -> None:
        """`most`: calls behind so many are left out, as vLLM does where they may not be parallel; None = all count."""
        self.calls: list[dict[str, Any]] = []
        """All so far, as OpenAI's messages hold them."""
        self._form, self._most = form, most
        self._marks = (form.open, *form.around)
        self._held = ""
        """What may be part of a mark or of a call."""
        self._blanks: str | None = ""
        """At the beginning, and behind a call: the blanks so far. None within a text."""

    def push(self, text: str) -> str:
        """What is certainly text, and no part of a call; calls that are whole are added to `calls`."""
        self._held += text
        shown = ""
        while (mark := self._next_mark()) is not None:
            shown += self._say(self._let_go(self._held.index(mark)))
            end = self._held.find(self._form.close) if mark == self._form.open else 0
            if end < 0:
                return shown
            shown += self._take(end) if mark == self._form.open else self._drop(mark)
        return shown + self._say(self._let_go(len(self._held) - self._overlap()))

    def finish(self) -> str:
        """The answer has ended; what was held back."""
        rest = self._say(self._let_go(len(self._held)))
        return rest or ("" if self.calls else self._blanks or "")

    def _take(self, end: int) -> str:
        """A call, or what only looks like one as text; it begins what is held and its closing mark is at `end`."""
        whole = self._let_go(end + len(self._form.close))
        call = self._form.read(whole[len(self._form.open) : end])
        if call is None:
            return self._say(whole)
        if self._most is None or len(self.calls) < self._most:
            self.calls.append({"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": call})
        self._blanks = ""
        return ""

    def _drop(self, mark: str) -> str:
        self._let_go(len(mark))
        return ""

    def _say(self, text: str) -> str:
        if self._blanks is None:
            return text
        text = self._blanks + text
        self._blanks = None if text.strip() else text
        return "" if self._blanks is not None else text

    def _let_go(self, letters: int) -> str:
        first, self._held = self._held[:letters], self._held[letters:]
        return first

    def _next_mark(self) -> str | None:
        """The mark that comes first in what is held."""
        found = [mark for mark in self._marks if mark in self._held]
        return min(found, key=self._held.index, default=None)

    def _overlap(self) -> int:
        """How many of the last letters could begin a mark."""
        longest = min(max(map(len, self._marks)) - 1, len(self._held))
        ends = (self._held[-letters:] for letters in range(longest, 0, -1))
        return next((len(end) for end in ends if any(mark.startswith(end) for mark in self._marks)), 0)

    def fresh(self) -> ToolText:
        """The same for another branch."""
        return ToolText(self._form, self._most)

    def split(self, answer: str) -> tuple[str, Sequence[dict[str, Any]]]:
        """A whole answer's text and calls."""
        return self.push(answer) + self.finish(), self.calls
