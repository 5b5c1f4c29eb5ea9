"""A request with a `strategy`: think's state machine drives branches in the engine's thread, and the client may watch.

    {"messages": [...], "strategy": {"vote": "auto", "max_samples": 16}}

Beside the standard chunks a stream then carries chunks without choices whose field `raison` tells what each branch
says, how it ended, and where the vote stands; the chosen branch comes at the end as ordinary deltas. Every drawn token
is billed, cancelled branches included. Not covered: the strategies (think/).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from raison.engine.sequence import Event
from raison.serve.access import Caller
from raison.serve.asking import Order
from raison.serve.job import Job
from raison.serve.outbox import Said
from raison.serve.refusal import Refused
from raison.serve.sampler import LoopSampler
from raison.serve.service import Service
from raison.think.drive import drive
from raison.think.strategy import Outcome, Tally


class VoteJob(Job):
    """A job whose branches a strategy asks for. `outcome` is there once it is settled."""

    def __init__(self, service: Service, caller: Caller, order: Order, prefix: str) -> None:
        super().__init__(service, caller, order, prefix)
        assert order.plan is not None
        self.strategy = order.plan.strategy
        self.outcome: Outcome | None = None
        self._sampler = LoopSampler(service, self._ticket, order)
        self._driving: asyncio.Future[Outcome] | None = None

    def hear(self, branch: int, events: Sequence[Event], at: float) -> None:
        super().hear(branch, events, at)
        for event in events:
            self._sampler.hear(branch, event)

    def fail(self, error: BaseException) -> None:
        super().fail(error)
        self._sampler.fail(error)

    @property
    def finish(self) -> str:
        if self.outcome is None or self.outcome.completion is None:
            return "cancelled"
        return self.outcome.completion.finish_reason

    def cancel(self, why: Refused | None = None) -> None:
        """The drive is cancelled once: then it waits for its branches' ends, and a second time would end the wait."""
        first = self._stopped is None
        super().cancel(why)
        if first and self._stopped is not None and self._driving is not None:
            self._driving.cancel()

    async def _sample(self) -> None:
        """What stands in the way of the first branches is raised before anything is sent."""
        self._driving = asyncio.ensure_future(drive(self.strategy, self._sampler))
        self._sampler.started.add_done_callback(lambda _: self._running.set_result(None))
        try:
            self.outcome = await self._driving
        except asyncio.CancelledError:
            if self._stopped is None:
                raise
        if not self._ended.done():
            self._ended.set_result(None)

    def _one_ended(self) -> None:
        """The strategy says when it is over."""


class Watched:
    """What a client who watches a vote is told, beside the answer."""

    def __init__(self, job: VoteJob) -> None:
        self.tokens: dict[int, list[Event]] = {}
        """Of each branch, where the reader wants them one by one."""
        self._job = job
        self._tally = Tally()

    async def events(self) -> AsyncIterator[list[dict[str, Any]]]:
        """Values of the field `raison`, as they come; empty where nothing was said for a while."""
        async for said in self._job.said():
            told = [value for one in said for value in self._of(one)]
            tally = self._job.strategy.tally()
            if tally != self._tally:
                self._tally = tally
                told.append(tally_value(tally))
            yield told

    def _of(self, said: Said) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        self.tokens.setdefault(said.branch, []).extend(said.tokens)
        if said.thinking or said.answer:
            text = {"reasoning_content": said.thinking, "content": said.answer}
            told.append({"event": "branch", "branch": said.branch, **text})
        if (end := said.finished) is not None:
            told.append({
                "event": "ended", "branch": said.branch, "answer": end.answer, "tokens": len(end.token_ids),
                "finish": end.finish_reason,
            })  # fmt: skip
        return told


def tally_value(tally: Tally) -> dict[str, Any]:
    classes = [{"answer": one.answer, "weight": one.weight, "branches": list(one.branches)} for one in tally.classes]
    return {"event": "tally", "classes": classes, "leader": tally.leader, "why": tally.why}
