"""Where a strategy's branches are drawn in a server: the engine's thread, with a judge in between where there is one.

Not covered: the strategies (think/), one request's life (voting.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from raison.engine.sequence import Event
from raison.records import Completion
from raison.serve.asking import Order
from raison.serve.judging import Judge
from raison.serve.loop import Draw, Ticket
from raison.serve.service import Service
from raison.think.engine_sampler import branch_params
from raison.think.strategy import Branch


class LoopSampler:
    """think's Sampler over the engine's thread. One prompt's branches; sample i has the seed of sample i."""

    def __init__(self, service: Service, ticket: Ticket, order: Order) -> None:
        self.started = asyncio.get_running_loop().create_future()
        """Done when the first branches are under way."""
        self._engine, self._ticket, self._order = service.engine, ticket, order
        self._judge = order.plan.judge if order.plan is not None else None
        self._checks = service.checks
        self._judging: dict[int, asyncio.Task[None]] = {}
        self._heard: list[tuple[int, Event]] = []
        self._ready = asyncio.Event()
        self._error: BaseException | None = None

    async def start(self, branches: Sequence[Branch]) -> None:
        await self._engine.start(self._ticket, [self._draw(branch) for branch in branches])
        if not self.started.done():
            self.started.set_result(None)

    async def cancel(self, branches: Sequence[int]) -> None:
        """Nobody waits for the score of a branch that is not needed any more."""
        for branch in branches:
            if branch in self._judging:
                self._judging[branch].cancel()
        self._engine.cancel(self._ticket, branches)

    async def events(self) -> Sequence[tuple[int, Event]]:
        if self._error is None:
            await self._ready.wait()
            self._ready.clear()
        if self._error is not None:
            raise self._error
        heard, self._heard = self._heard, []
        return heard

    def hear(self, branch: int, event: Event) -> None:
        """A sample that ended is told when its score is known, where it has one; the others do not wait for it."""
        if self._judge is None or event.finished is None or event.finished.finish_reason == "cancelled":
            self._tell(branch, event)
            return
        task = asyncio.create_task(self._weigh(self._judge, event.finished))
        task.add_done_callback(lambda _: self._judged(branch, event))
        self._judging[branch] = task

    async def _weigh(self, judge: Judge, completion: Completion) -> None:
        try:
            await judge.weigh(completion, self._checks)
        except Exception as error:
            self.fail(error)

    def _judged(self, branch: int, event: Event) -> None:
        del self._judging[branch]
        self._tell(branch, event)

    def _tell(self, branch: int, event: Event) -> None:
        self._heard.append((branch, event))
        self._ready.set()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._ready.set()

    def _draw(self, branch: Branch) -> Draw:
        (prompt,) = self._order.prompts
        params = self._order.params
        if not branch.prefix and branch.max_tokens is None:
            return Draw(branch.number, prompt, params, branch.number)
        assert self._engine.reasoner is not None
        own = branch_params(params, branch, self._engine.reasoner.engine)
        return Draw(branch.number, prompt + branch.prefix, own, 0)
