"""One request's life: held in the books, admitted, drawn, ended, settled. It goes its way whoever still listens.

    job = Job(service, caller, order, "chatcmpl")
    await job.begin()
    async for said in job.said(): ...
    used = await job.settled()

A client that hangs up cancels the branches; a deadline does; the rest is the same: the engine tells each branch's end
with what it had drawn, and that is settled exactly once, before a client that still listens gets its last byte. What
was never drawn is given back. Not covered: what the client is shown (chat.py, completions.py), several branches that
depend on each other (voting.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, replace

from raison.engine.sequence import Event, sample_seed
from raison.errors import UserError
from raison.records import Completion
from raison.serve.access import Caller, Reservation, Used
from raison.serve.admission import Place
from raison.serve.asking import Order
from raison.serve.loop import Draw, Ticket
from raison.serve.mistake import shutting_down
from raison.serve.outbox import Outbox, Said
from raison.serve.refusal import Refused
from raison.serve.service import Service

LOG = logging.getLogger("raison.serve")


def hung_up() -> Refused:
    """499, as nginx calls it; nobody is there to read it. Made anew each time, for raising one keeps its frames."""
    return Refused("the client has gone", 499, "invalid_request_error", "client_closed_request")


def too_late(seconds: float) -> Refused:
    """504: the request took longer than it may."""
    message = f"no whole answer within {seconds:g} s; ask for fewer tokens, or when the server is less busy"
    return Refused(message, 504, "server_error", "deadline_exceeded")


class Job:
    """`begin` starts it; then it runs as a task of its own until it is settled."""

    def __init__(self, service: Service, caller: Caller, order: Order, prefix: str) -> None:
        self.service, self.caller, self.order = service, caller, order
        self.id = f"{prefix}-{uuid.uuid4().hex}"
        self.created, self._arrived = int(time.time()), time.perf_counter()
        self.queued_seconds: float | None = None
        """From its arrival to its turn; None before that."""
        self.on_end: list[Callable[[BaseException | None], None]] = []
        """Told once, when it is settled, of what cut it off or stood in its way."""
        loop = asyncio.get_running_loop()
        self._running: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._outbox = Outbox(order.tokens, self._one_ended)
        self._ticket = Ticket(self, caller.key)
        self._task: asyncio.Task[None] | None = None
        self._turn: asyncio.Future[Place] | None = None
        self._stopped: Refused | None = None
        """Why it was cut off from this side."""

    async def begin(self) -> None:
        """Hold what it may use and wait for its turn. Raises Refused, or UserError as the engine does."""
        self._task = asyncio.create_task(self._live(), name=self.id)
        self.service.jobs[self._task] = self
        self._task.add_done_callback(self._over)
        await asyncio.wait({self._task, self._running}, return_when=asyncio.FIRST_COMPLETED)
        if not self._running.done():
            await self._task  # raises what stood in the way
            if self._stopped is not None:
                raise self._stopped

    async def said(self) -> AsyncIterator[list[Said]]:
        """What the branches say, until all have ended; an empty list where nothing was said for a while."""
        while not self._outbox.empty:
            yield await self._outbox.next()

    async def settled(self) -> Used:
        """Wait until what was used is in the books. Raises what cut it off."""
        assert self._task is not None, "begin comes first"
        await asyncio.shield(self._task)
        if self._stopped is not None:
            raise self._stopped
        return self.used()

    def cancel(self, why: Refused | None = None) -> None:
        """Stop every branch now. What was drawn is settled nevertheless; a second call changes nothing."""
        if self._stopped is None and not self._ended.done():
            self._stopped = why or hung_up()
            if self._turn is not None:
                self._turn.cancel()
            self.service.engine.cancel(self._ticket)

    def poke(self) -> None:
        """Have `said` yield, if only nothing."""
        self._outbox.poke()

    @property
    def completions(self) -> Mapping[int, Completion]:
        """The branches that have ended."""
        return self._outbox.completions

    @property
    def drawn(self) -> int:
        """Tokens heard of so far, of all branches."""
        return self._outbox.drawn

    @property
    def finish(self) -> str:
        """The request's end as the books keep it: the worst of its branches."""
        ends = {one.finish_reason for one in self.completions.values()}
        return next((end for end in ("cancelled", "length", "stop") if end in ends), "cancelled")

    def used(self) -> Used:
        """What was used so far: every token that was drawn, and each prompt once."""
        done = self.completions
        n = self.order.n
        cached = [
            min((done[i].cached_tokens for i in range(p * n, (p + 1) * n) if i in done), default=0)
            for p in range(len(self.order.prompts))
        ]  # the first of the samples reads the prompt, the others find it
        now, first = time.perf_counter(), self._outbox.first_at
        return Used(
            request=self.id, key=self.caller.key, model=self.order.model, endpoint=self.order.endpoint,
            prompt_tokens=self.order.prompt_tokens, cached_tokens=sum(cached),
            completion_tokens=sum(len(one.token_ids) for one in done.values()),
            reasoning_tokens=sum(one.thinking_tokens for one in done.values()),
            branches=max(len(done), 1), finish=self.finish, seconds=now - self._arrived,
            first_token_seconds=float("nan") if first is None else first - self._arrived,
        )  # fmt: skip

    async def _live(self) -> None:
        service, seconds = self.service, self.service.settings.deadline_seconds
        deadline = asyncio.get_running_loop().call_later(seconds, self.cancel, too_late(seconds))
        try:
            if service.draining:  # since it was checked: who drains waits for those that it knows of
                raise shutting_down()
            reservation = await self._held()
            try:
                await self._draw()
            except BaseException:
                await service.book(service.access.release, reservation)
                raise
            await self._settle(reservation)
        finally:
            deadline.cancel()

    async def _held(self) -> Reservation:
        """The most that it may use; the books are asked only where the key has limits."""
        reserve, most = self.service.access.reserve, self.order.most_tokens
        if not self.caller.limited:
            return reserve(self.caller, most)
        return await self.service.book(reserve, self.caller, most)

    async def _draw(self) -> None:
        """Wait for a turn, then for the last token."""
        place = await self._admitted()
        try:
            if self._stopped is not None:  # in the moment of its turn: the engine knew of nothing to cancel
                raise self._stopped
            await self._sample()
        finally:
            self._outbox.close()
            self.service.admission.leave(place, self.used().tokens)

    async def _sample(self) -> None:
        """Draw all that is to be drawn, to its end."""
        await self.service.engine.start(self._ticket, draws_of(self.order))
        self._running.set_result(None)
        await self._ended

    async def _admitted(self) -> Place:
        service, order = self.service, self.order
        if self._stopped is not None:
            raise self._stopped
        self._turn = asyncio.ensure_future(service.admission.enter(self.caller, order.branches, order.most_tokens))
        try:
            place = await self._turn
        except asyncio.CancelledError:
            raise self._stopped or hung_up() from None
        self.queued_seconds = time.perf_counter() - self._arrived
        service.metrics.admitted(self.queued_seconds)
        return place

    async def _settle(self, reservation: Reservation) -> None:
        used, service = self.used(), self.service
        LOG.info("answered", extra=asdict(used))
        service.metrics.ended(used, self.completions)
        try:
            if used.completion_tokens:
                await service.book(service.access.settle, reservation, used)
            else:
                await service.book(service.access.release, reservation)
        except Exception:
            LOG.exception("an answer is not in the books", extra=asdict(used))
            raise

    def _over(self, task: asyncio.Task[None]) -> None:
        """The task's error was or will be raised where somebody still waits; nobody waiting is no error."""
        del self.service.jobs[task]
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, UserError):
            LOG.error("request %s failed", self.id, exc_info=error)
        for tell in self.on_end:
            tell(error or self._stopped)

    def hear(self, branch: int, events: Sequence[Event], at: float) -> None:
        self._outbox.hear(branch, events, at)

    def fail(self, error: BaseException) -> None:
        self._outbox.fail(error)
        if not self._ended.done():
            self._ended.set_result(None)

    def _one_ended(self) -> None:
        if len(self.completions) == self.order.branches and not self._ended.done():
            self._ended.set_result(None)


def draws_of(order: Order) -> list[Draw]:
    """Branch p * n + i is sample i of prompt p; each prompt has seeds of its own."""
    return [
        Draw(p * order.n + i, prompt, replace(order.params, seed=sample_seed(order.params.seed, p)), i)
        for p, prompt in enumerate(order.prompts)
        for i in range(order.n)
    ]
