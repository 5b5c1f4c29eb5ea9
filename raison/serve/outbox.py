"""What branches have said and the reader has not taken yet: bounded by the answers themselves, however slow the reader.

Text of a branch is joined as it waits, so that a reader who lets a hundred steps pass finds one piece, not a hundred.
Not covered: strategies, which want every event (sampler.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
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
    """A Listener that one reader empties.

    `finished` is told of every branch that ends; `close` says that there will be no more.
    """

    def __init__(self, tokens: bool, finished: Callable[[], None]) -> None:
        self.closed = False
        self.drawn = 0
        """Tokens that were told."""
        self.completions: dict[int, Completion] = {}
        self.first_at: float | None = None
        self.error: BaseException | None = None
        self._tokens, self._finished = tokens, finished
        self._said: dict[int, Said] = {}
        self._ready = asyncio.Event()

    def hear(self, branch: int, events: Sequence[Event], at: float) -> None:
        """What one step told of a branch."""
        said = self._said.get(branch)
        if said is None:
            said = self._said[branch] = Said(branch)
        said.thinking += "".join([event.text for event in events if event.text and event.thinking])
        said.answer += "".join([event.text for event in events if event.text and not event.thinking])
        drawn = sum([event.token_id is not None for event in events])
        if drawn and self.first_at is None:
            self.first_at = at
        self.drawn += drawn
        if self._tokens:
            said.tokens += events
        if (finished := events[-1].finished) is not None:
            said.finished = self.completions[branch] = finished
            self._finished()
        self._ready.set()

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.close()

    def close(self) -> None:
        self.closed = True
        self._ready.set()

    def poke(self) -> None:
        """Let the reader go on, even with nothing."""
        self._ready.set()

    @property
    def empty(self) -> bool:
        """Whether all was said and taken."""
        return self.closed and not self._said and self.error is None

    async def next(self) -> list[Said]:
        """All that was said since the last call; waits until there is something, `poke`, or the end. Raises what
        failed.
        """
        if not self.closed:
            await self._ready.wait()
            self._ready.clear()
        if self.error is not None:
            raise self.error
        said, self._said = list(self._said.values()), {}
        return said
