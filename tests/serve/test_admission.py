"""Who goes next: bounds, fairness by tokens, priority, and nobody lost or counted twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from raison.serve.access import Caller
from raison.serve.admission import QUANTUM, Admission, Place, Room
from raison.serve.refusal import Limited
from raison.serve.service import Service
from raison.serve.settings import ServeSettings


def caller(key: str, priority: int = 0) -> Caller:
    return Caller(key, key, None, priority)


def make(branches: int = 1, tokens: int = 10**6, requests: int = 1000, queued: int = 10**9) -> Admission:
    return Admission(Room(branches, tokens), requests, queued)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await work()

    asyncio.run(limited())


async def serve_all(admission: Admission, asked: list[tuple[Caller, int]]) -> list[Caller]:
    """All ask at once, one is served at a time; the order in which they were."""
    order: list[Caller] = []

    async def one(who: Caller, tokens: int) -> None:
        place = await admission.enter(who, 1, tokens)
        order.append(who)
        await asyncio.sleep(0)
        admission.leave(place, tokens)

    first = await admission.enter(caller("first"), 1, 1)
    tasks = [asyncio.create_task(one(*each)) for each in asked]
    while admission.waiting < len(asked):
        await asyncio.sleep(0)
    admission.leave(first, 1)
    await asyncio.gather(*tasks)
    return order


def test_a_key_that_asks_more_often_gets_no_more() -> None:
    async def work() -> None:
        asked = [(caller("greedy"), 1024)] * 90 + [(caller("modest"), 1024)] * 10
        order = await serve_all(make(), asked)
        assert 9 <= [who.key for who in order[:20]].count("modest") <= 11

    run(work)


def test_fair_is_by_tokens_not_by_requests() -> None:
    async def work() -> None:
        asked = [(caller("large"), 4096)] * 10 + [(caller("small"), 512)] * 80
        order = await serve_all(make(), asked)
        tokens = {"large": 4096, "small": 512}
        served: Counter[str] = Counter()
        for who in order[:45]:
            served[who.key] += tokens[who.key]
        assert abs(served["large"] - served["small"]) <= 4096 + QUANTUM

    run(work)


def test_tokens_that_were_not_used_are_no_disadvantage() -> None:
    """A key that reserves eight times what it uses falls behind by its first turns only; without what
    it gets back it would have an eighth."""

    async def work() -> None:
        admission, used = make(), Counter[str]()

        async def one(who: Caller, reserved: int) -> None:
            place = await admission.enter(who, 1, reserved)
            used[who.key] += 512
            if sum(used.values()) == 512 * 60:
                assert used["cautious"] >= 512 * 18
            await asyncio.sleep(0)
            admission.leave(place, 512)

        asked = [("exact", 512)] * 50 + [("cautious", 4096)] * 50
        await asyncio.gather(*(one(caller(key), tokens) for key, tokens in asked))

    run(work)


def test_higher_priority_goes_first() -> None:
    async def work() -> None:
        order = await serve_all(make(), [(caller("low"), 10)] * 5 + [(caller("high", 3), 10)] * 5)
        assert [who.key for who in order] == ["high"] * 5 + ["low"] * 5

    run(work)


def test_a_full_queue_refuses_the_one_that_fills_it() -> None:
    async def work() -> None:
        admission = make(requests=10)
        running = await admission.enter(caller("x"), 1, 10)
        greedy = [asyncio.create_task(admission.enter(caller("greedy"), 1, 10)) for _ in range(10)]
        await asyncio.sleep(0)
        modest = asyncio.create_task(admission.enter(caller("modest"), 1, 10))
        await asyncio.sleep(0.01)
        assert not modest.done()
        (turned_away,) = [task for task in greedy if task.done()]
        assert turned_away is greedy[-1]
        with pytest.raises(Limited) as refused:
            await turned_away
        assert refused.value.status == 429
        assert int(refused.value.headers["Retry-After"]) >= 1
        admission.leave(running, 10)
        for task in sorted([modest, *greedy[:-1]], key=lambda task: not task.done()):
            admission.leave(await task, 10) if task.done() else None
        rest = [task for task in (modest, *greedy[:-1]) if not task.done()]
        await drain(admission, rest)
        assert admission.running == admission.waiting == admission.waiting_tokens == 0

    run(work)


async def drain(admission: Admission, tasks: list[asyncio.Task[Place]]) -> None:
    """Let every waiting request have its turn."""
    waiting = set(tasks)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            admission.leave(task.result(), 10)


def test_a_full_queue_counts_tokens_too() -> None:
    async def work() -> None:
        admission = make(queued=1000)
        await admission.enter(caller("x"), 1, 10)
        waiting = asyncio.create_task(admission.enter(caller("a"), 1, 900))
        await asyncio.sleep(0)
        with pytest.raises(Limited):
            await admission.enter(caller("a"), 1, 101)
        waiting.cancel()

    run(work)


def test_random_comings_and_goings_leave_nothing_behind() -> None:
    """Who is cancelled while waiting, at the turn, or after it, gives everything back, and nobody is stuck.

    Time is turns of the loop, so that a seed is one course of events.
    """

    async def work() -> None:
        numbers, admission = random.Random(0), make(branches=4, tokens=3000, requests=20)

        async def pause(most: int) -> None:
            for _ in range(numbers.randint(0, most)):
                await asyncio.sleep(0)

        async def one(i: int) -> None:
            await pause(600)
            place = await admission.enter(caller(f"key{i % 5}", i % 2), 1 + i % 6, numbers.randrange(1, 5000))
            try:
                await pause(6)
            finally:
                admission.leave(place, 10)

        tasks = [asyncio.create_task(one(i)) for i in range(400)]
        for task in numbers.sample(tasks, 150):
            await pause(2)
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(end) for end in ends} <= {type(None), Limited, asyncio.CancelledError}
        assert sum(end is None for end in ends) > 50
        assert admission.running == admission.waiting == admission.waiting_tokens == 0
        place = await admission.enter(caller("last"), 4, 3000)
        assert admission.running == 1
        admission.leave(place, 0)

    run(work)


def test_who_came_before_the_room_was_known_gives_back_what_was_taken() -> None:
    async def work() -> None:
        admission = make(branches=1, tokens=1)
        early = await admission.enter(caller("early"), 1, 500)
        waiting = asyncio.create_task(admission.enter(caller("next"), 4, 1000))
        await asyncio.sleep(0)
        admission.fit(Room(4, 1000))
        late = await waiting
        admission.leave(early, 500)
        whole = asyncio.create_task(admission.enter(caller("whole"), 4, 1000))
        await asyncio.sleep(0.01)
        assert not whole.done(), "there is room for one of them at a time"
        admission.leave(late, 10)
        admission.leave(await whole, 10)
        assert admission.running == 0

    run(work)


def test_a_model_that_is_ready_forgets_nobody() -> None:
    """Its reasoner is there before the event loop has heard so; who asks between is counted as all others are."""

    async def work() -> None:
        nowhere: Any = None
        service = Service(lambda: nowhere, nowhere, ServeSettings(), "small")
        early = await service.admission.enter(caller("early"), 1, 10)
        sizes: Any = SimpleNamespace(settings=SimpleNamespace(max_batch=8, cache_tokens=1000))
        service.engine.reasoner, service.engine.state = sizes, "ready"
        service._became()
        assert service.admission.running == 1
        service.admission.leave(early, 10)
        assert service.admission.running == 0

    run(work)


def test_those_on_their_way_to_the_queue_fill_it_for_their_own_key() -> None:
    """A crowd that comes in one moment is turned away before it is read, but for what fits."""

    async def work() -> None:
        admission = make(branches=2, requests=3)
        with ExitStack() as coming:
            for _ in range(5):
                admission.check(caller("crowd"))
                coming.enter_context(admission.coming(caller("crowd")))
            with pytest.raises(Limited):
                admission.check(caller("crowd"))
            admission.check(caller("other"))
        admission.check(caller("crowd"))

    run(work)
