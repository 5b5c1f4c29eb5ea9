"""What the engine's thread tells is heard while it computes on: no token waits for the step after it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from raison.engine.sequence import Event, SamplingParams
from raison.serve.loop import Draw, EngineLoop, Ticket, by_sequence

STEPS = 6


class Heard:
    """A Listener that lets the engine go on."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.more = threading.Condition()

    def hear(self, branch: int, events: Sequence[Event], at: float) -> None:
        with self.more:
            self.tokens += [event.token_id for event in events if event.token_id is not None]
            self.more.notify_all()

    def fail(self, error: BaseException) -> None:
        raise error


class Slow:
    """An engine of one sequence, each of whose steps lasts until the token of the `behind`th step before is heard."""

    def __init__(self, heard: Heard, behind: int) -> None:
        self._heard, self._behind, self._step, self._asked = heard, behind, 0, False
        self.late: list[int] = []

    @property
    def stats(self) -> Any:
        return SimpleNamespace(running=int(self._asked and self._step < STEPS), waiting=0)

    def submit(self, *_: object, **__: object) -> list[int]:
        self._asked = True
        return [7]

    def step(self) -> list[Event]:
        with self._heard.more:
            if not self._heard.more.wait_for(lambda: len(self._heard.tokens) > self._step - self._behind, 5):
                self.late.append(self._step)
        self._step += 1
        ended: Any = "ended" if self._step == STEPS else None
        return [Event(7, self._step, "x", False, ended)]


@pytest.mark.parametrize("behind", [1, 2, 3])
def test_a_token_is_heard_while_the_next_is_computed(behind: int) -> None:
    """`behind` 1: the engine waits for each. More: some are told while the event loop pauses, and are heard all the
    same, the last of them though no step follows.
    """

    async def work() -> None:
        heard = Heard()
        slow = Slow(heard, behind)
        load: Any = lambda: SimpleNamespace(engine=slow)  # noqa: E731
        loop, ready = EngineLoop(load), asyncio.Event()
        loop.start_thread(ready.set)
        await ready.wait()
        await loop.start(Ticket(heard, ""), [Draw(0, [1], SamplingParams(), 0)])
        while len(heard.tokens) < STEPS:
            await asyncio.sleep(0.001)
        loop.stop()
        assert heard.tokens == list(range(1, STEPS + 1))
        assert not slow.late

    asyncio.run(asyncio.wait_for(work(), 20))


def test_runs_of_one_sequence_are_told_together() -> None:
    events = [Event(1, 5, "a", True), Event(1, 6, "b", True), Event(2, 7, "c", True)]
    assert list(by_sequence(events)) == [(1, events[:2]), (2, events[2:])]
