"""What was put is handed out: once, in order, whatever a round meets, and with no later step to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from raison.serve import post
from raison.serve.post import Post


@pytest.fixture(autouse=True)
def pauses_that_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is handed out in time is not handed out because a pause is over."""
    monkeypatch.setattr(post, "PACE_SECONDS", 60.0)
    monkeypatch.setattr(post, "LONGEST_PAUSE", 60.0)


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 20))


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.001)


def test_what_follows_a_last_step_does_not_wait_for_the_step_after_it() -> None:
    """A request that comes soon after another's end, and whose second step is long."""

    async def work() -> None:
        handed: list[str] = []
        one = Post(handed.append)
        one.open(asyncio.get_running_loop())
        one.put(["the end of the one before"], more=False)
        await until(lambda: bool(handed))
        await asyncio.sleep(0.01)  # its pause has begun, and what it waits for is over
        one.put(["a first token"], more=True)
        await until(lambda: len(handed) == 2)

    run(work)


def test_what_one_listener_breaks_the_others_hear() -> None:
    async def work() -> None:
        handed: list[int] = []
        broken: list[object] = []

        def hand(thing: int) -> None:
            handed.append(10 // thing)

        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: broken.append(type(context.get("exception"))))
        one = Post(hand)
        one.open(loop)
        one.put([5, 0, 1], more=True)
        await until(lambda: bool(handed))
        one.put([2], more=False)
        await until(lambda: len(handed) == 3)
        assert (handed, broken) == ([2, 10, 5], [ZeroDivisionError])

    run(work)
