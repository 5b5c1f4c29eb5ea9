"""What the engine's thread tells is heard while it computes on: no token waits for the step after it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from raison.engine.sequence import Event, SamplingParams
from raison.serve import post
from raison.serve.loop import Draw, EngineLoop, Ticket, by_sequence

STEPS = 6


class Heard:
    """A Listener that lets the engine go on."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.failed = False
        self.more = threading.Condition()

    def hear(self, branch: int, events: Sequence[Event], at: float) -> None:
        with self.more:
            self.tokens += [event.token_id for event in events if event.token_id is not None]
            self.more.notify_all()

    def fail(self, error: BaseException) -> None:
        assert not self.failed
        self.failed = True
        self.told = len(self.tokens)


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
        loop = await started(slow, heard)
        while len(heard.tokens) < STEPS:
            await asyncio.sleep(0.001)
        loop.stop()
        assert heard.tokens == list(range(1, STEPS + 1))
        assert not (slow.late or heard.failed)

    asyncio.run(asyncio.wait_for(work(), 20))


async def started(engine: Any, heard: Heard) -> EngineLoop:
    """A thread that draws one branch."""
    load: Any = lambda: SimpleNamespace(engine=engine)  # noqa: E731
    loop, ready = EngineLoop(load), asyncio.Event()
    loop.start_thread(ready.set)
    await ready.wait()
    await loop.start(Ticket(heard, ""), [Draw(0, [1], SamplingParams(), 0)])
    return loop


class Breaking(Slow):
    """Fails in its last step; the others follow when the first one's token is heard."""

    def step(self) -> list[Event]:
        if self._step == STEPS - 1:
            raise RuntimeError("a bug of ours")
        self._behind = 1 if self._step == 1 else STEPS
        return super().step()


def test_what_was_drawn_is_heard_before_the_engine_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the event loop pauses: it is billed."""
    monkeypatch.setattr(post, "PACE_SECONDS", 60.0)
    monkeypatch.setattr(post, "LONGEST_PAUSE", 60.0)

    async def work() -> None:
        heard = Heard()
        await started(Breaking(heard, STEPS), heard)
        while not heard.failed:
            await asyncio.sleep(0.001)
        assert heard.told == len(heard.tokens) == STEPS - 1

    asyncio.run(asyncio.wait_for(work(), 20))


def test_runs_of_one_sequence_are_told_together() -> None:
    events = [Event(1, 5, "a", True), Event(1, 6, "b", True), Event(2, 7, "c", True)]
    assert list(by_sequence(events)) == [(1, events[:2]), (2, events[2:])]
