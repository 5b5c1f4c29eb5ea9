"""A conversation with a model that has no task: what it says as it comes, and what was said before remembered.

Not covered: system prompts, tools, conversations longer than the context (an error says so; /new starts again).
"""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.text import Text

from raison.cli.output import visible
from raison.cli.session import Asking, each_line
from raison.reasoner import Reasoner
from raison.records import Completion
from raison.text.chat import Turn


class Talk:
    """The loop and what was said so far."""

    def __init__(self, console: Console, reasoner: Reasoner, asking: Asking) -> None:
        self.console, self.reasoner, self.asking = console, reasoner, asking
        self.history: list[Turn] = []

    def run(self) -> None:
        """Until /quit, the end of input, or ^C at the prompt."""
        if sys.stdin.isatty():
            self.console.print("  /new forgets what was said, /quit or ^D leaves", markup=False)
        each_line(self.console, self.take)

    def take(self, line: str) -> None:
        """One line: /new, or something to be answered."""
        if line == "/new":
            self.history.clear()
        elif line:
            try:
                answer = self._answer(line)
            except KeyboardInterrupt:
                self.console.print()  # it stopped in the middle of a line
                raise
            self.history += [Turn("user", line), Turn("assistant", answer.answer)]
            self.asking = self.asking.next()

    def _answer(self, line: str) -> Completion:
        asking, start = self.asking, time.perf_counter()
        events = self.reasoner.stream(
            line, budget=asking.budget, seed=asking.seed, temperature=asking.temperature, history=self.history
        )
        completion: Completion | None = None
        for event in events:
            if event.text:
                self.console.print(
                    Text(visible(event.text), style="dim" if event.thinking else ""), end="", soft_wrap=True
                )
            completion = event.finished or completion
        assert completion is not None, "a stream ends with its completion"
        seconds = max(time.perf_counter() - start, 1e-6)
        tokens = len(completion.token_ids)
        cut = "   cut at its limit" if completion.finish_reason == "length" else ""
        self.console.print(
            Text(f"\n{tokens:,} tokens · {seconds:.1f} s · {tokens / seconds:,.0f} tokens/s{cut}", "dim")
        )
        return completion
