"""What branches have said and the reader has not taken yet: bounded by the answers themselves, however slow the reader.

Text of a branch is joined as it waits, so that a reader who lets a hundred steps pass finds one piece, not a hundred.
Not covered: strategies, which want every event (sampler.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from raison.engine.sequence import Event
from raison.records import Completion


@dataclass(slots=True)
class Said:
    """What one branch said since it was last asked: thinking first, for an answer is never followed by thoughts."""

    branch: int
    thinking: str = ""
    answer: str = ""
    tokens: list[Event] = field(default_factory=list)
    """Every token's event, where the reader wants them one by one."""
    finished: Completion | None = None


class Outbox:
    """A Listener that one reader empties. `ended` is called once, when the last of `branches` has ended."""

    def __init__(self, branches: int, tokens: bool, ended: Callable[[], None]) -> None:
        self.completions: dict[int, Completion] = {}
        self.first_at: float | None = None
        self.error: BaseException | None = None
        self._left, self._tokens, self._ended = branches, tokens, ended
        self._said: dict[int, Said] = {}
        self._ready = asyncio.Event()

    def hear(self, branch: int, event: Event, at: float) -> None:
        said = self._said.get(branch)
        if said is None:
            said = self._said[branch] = Said(branch)
        if event.text:
            if event.thinking:
                said.thinking += event.text
            else:
                said.answer += event.text
        if self.first_at is None and event.token_id is not None:
            self.first_at = at
        if self._tokens:
            said.tokens.append(event)
        if event.finished is not None:
            self._finish(said, event.finished)
        self._ready.set()

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.poke()
        self._ended()

    def poke(self) -> None:
        """Let the reader go on, even with nothing."""
        self._ready.set()

    async def next(self) -> list[Said]:
        """All that was said since the last call; waits until there is something, or `poke`. Raises what failed."""
        await self._ready.wait()
        self._ready.clear()
        if self.error is not None:
            raise self.error
        said, self._said = list(self._said.values()), {}
        return said

    def _finish(self, said: Said, completion: Completion) -> None:
        said.finished = self.completions[said.branch] = completion
        self._left -= 1
        if not self._left:
            self._ended()
