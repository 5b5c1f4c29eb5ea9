"""A sampler that says what it is told to: each branch's answer, so many tokens, one event a token, in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raison.engine.sequence import Event
from raison.records import Completion, FinishReason
from raison.think.strategy import Branch

Say = Callable[[Branch], tuple[str, int]]
"""A branch's answer and its number of tokens."""


def said(answer: str, tokens: int = 10, finish: FinishReason = "stop", logprob: float = -0.1) -> Completion:
    """A completion of so many tokens, all but one of them thinking."""
    return Completion(
        text=answer, thinking="", answer=answer, token_ids=tuple(range(tokens)), logprobs=(logprob,) * tokens,
        finish_reason=finish, prompt_tokens=3, cached_tokens=0, thinking_tokens=max(0, tokens - 1), answer_tokens=1,
        forced_close=False, seed=0, first_token_seconds=0.0, seconds=0.0,
    )  # fmt: skip


def end(answer: str, tokens: int = 10, finish: FinishReason = "stop", logprob: float = -0.1) -> Event:
    return Event(0, 1, None, False, said(answer, tokens, finish, logprob))


class Scripted:
    """A Sampler. `running` must be empty after a drive; `told` counts the tokens of all events."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.running: dict[int, tuple[str, int, int]] = {}
        self.started: list[Branch] = []
        self.cancelled: list[int] = []
        self.told = 0
        self._ends: list[tuple[int, Event]] = []

    async def start(self, branches: Sequence[Branch]) -> None:
        for branch in branches:
            answer, tokens = self._say(branch)
            self.running[branch.number] = (answer, min(tokens, branch.max_tokens or tokens), 0)
            self.started.append(branch)

    async def cancel(self, branches: Sequence[int]) -> None:
        for number in branches:
            if number in self.running:
                self.cancelled.append(number)
                done = self.running.pop(number)[2]
                self._ends.append((number, Event(0, None, None, False, said("", done, "cancelled"))))

    async def events(self) -> Sequence[tuple[int, Event]]:
        heard, self._ends = self._ends, []
        for number, (answer, tokens, done) in list(self.running.items()):
            self.told += 1
            if done + 1 < tokens:
                self.running[number] = (answer, tokens, done + 1)
                heard.append((number, Event(0, done, None, True)))
            else:
                del self.running[number]
                heard.append((number, end(answer, tokens)))
        assert heard, "waiting for nothing"
        return heard
