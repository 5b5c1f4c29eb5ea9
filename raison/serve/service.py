"""What all requests share: the engine's thread, admission, the books, the metrics, and whether the server takes more.

Not covered: HTTP (server.py, gate.py), one request's life (job.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar

from raison import __version__
from raison.serve.access import Access, Caller
from raison.serve.admission import Admission, Room
from raison.serve.asking import Order, Reach
from raison.serve.checkers import Checkers
from raison.serve.conversation import chat_ids
from raison.serve.loop import EngineLoop, State, reason_of
from raison.serve.metrics import Metrics
from raison.serve.mistake import shutting_down, unavailable, unknown_model
from raison.serve.protocol import Message
from raison.serve.refusal import Refused
from raison.serve.settings import ServeSettings
from raison.serve.trained import trained_for
from raison.think.effort import budgets_of

if TYPE_CHECKING:
    from raison.reasoner import Reasoner
    from raison.serve.tracing import Tracing

P = ParamSpec("P")
R = TypeVar("R")
B = TypeVar("B")
OVERCOMMIT = 2
"""Most tokens admitted, in caches: requests seldom use all that they may, and the engine puts one back if they do."""
LOG = logging.getLogger("raison.serve")
ACCESS_THREADS, TEXT_THREADS, CHECK_THREADS = 16, 2, 4
Health = Literal["ok", "loading", "draining", "failed"]


class Underway(Protocol):
    """A request that is being answered."""

    def cancel(self, why: Refused | None = None) -> None: ...

    def poke(self) -> None: ...


class Service:
    """Lives on the event loop."""

    def __init__(
        self, load: Callable[[], Reasoner], access: Access, settings: ServeSettings, model: str,
        checkers: Checkers | None = None, tracing: Tracing | None = None,
    ) -> None:  # fmt: skip
        """`checkers`: what requests may name; the built-in ones where None. `tracing`: where spans are wanted."""
        self.access, self.settings, self.model = access, settings, model
        self.checkers, self.tracing = checkers or Checkers(), tracing
        self.engine = EngineLoop(load)
        self.metrics = Metrics(self)
        self.created = int(time.time())
        self.fingerprint = f"raison-{__version__}"
        self.draining = False
        self.on_change: list[Callable[[State], None]] = []
        self.admission = Admission(Room(1, 1), settings.queued_requests, settings.queued_tokens)
        self.jobs: dict[asyncio.Task[None], Underway] = {}
        """Requests under way, their settling included."""
        self._books = ThreadPoolExecutor(ACCESS_THREADS, "access")
        self._texts = ThreadPoolExecutor(TEXT_THREADS, "text")
        self.checks = ThreadPoolExecutor(CHECK_THREADS, "check")
        """For checkers, which may take seconds."""

    def start(self) -> None:
        """Begin loading."""
        self.engine.start_thread(self._became)
        self._poking = asyncio.create_task(self._poke())

    async def drain(self) -> None:
        """Take nothing more; wait for the answers under way, and cut off what does not end in time."""
        self.draining = True
        if self.jobs:
            await asyncio.wait(self.jobs, timeout=self.settings.drain_seconds)
        for job in list(self.jobs.values()):
            job.cancel(unavailable("the server has shut down", "draining"))

    async def stop(self) -> None:
        """Wait for what is under way to be settled, then end the threads."""
        self._poking.cancel()
        while self.jobs:
            await asyncio.wait(self.jobs)
        self.engine.stop()
        await self.book(self.access.close)
        if self.tracing is not None:
            await self.book(self.tracing.close)
        self._books.shutdown()
        self._texts.shutdown(wait=False)
        self.checks.shutdown(wait=False, cancel_futures=True)
        self.checkers.close()

    def about(self) -> dict[str, Any]:
        """The model as /v1/models tells of it."""
        about = {"id": self.model, "object": "model", "created": self.created, "owned_by": "raison"}
        if self.engine.reasoner is None:
            return about
        provenance, context = self.reasoner.provenance, self.context
        more = {
            "checkers": self.checkers.names,
            "context": context,
            "efforts": budgets_of(provenance, context),
            "thinks": self.thinks,
        }
        return {**about, "raison": {**more, "price": self.price, **self.trained}}

    @cached_property
    def trained(self) -> dict[str, Any]:
        """The model's task, and problems to try."""
        return trained_for(self.reasoner.provenance)

    @property
    def price(self) -> dict[str, float] | None:
        """Dollars for a million tokens; None where the model has no price."""
        price = self.access.price(self.model)
        if price is None:
            return None
        return {"input": price.prompt, "cached_input": price.of_cached, "output": price.completion}

    @cached_property
    def thinks(self) -> bool:
        """Whether prompts open the thinking."""
        tokenizer = self.reasoner.tokenizer
        return bool(tokenizer.ends_thinking_open(chat_ids(tokenizer, [Message(role="user", content="")])))

    @property
    def health(self) -> Health:
        if self.draining:
            return "draining"
        state = self.engine.state
        return "ok" if state == "ready" else "loading" if state == "loading" else "failed"

    @property
    def reasoner(self) -> Reasoner:
        """Raises Refused (503) while there is none."""
        if self.health == "failed":
            raise unavailable("the engine has failed; the server must be restarted", "engine_failed", 30)
        if self.engine.reasoner is None:
            raise unavailable("the model is loading", "loading")
        return self.engine.reasoner

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together."""
        return self.reasoner.context

    @property
    def reach(self) -> Reach:
        return Reach(self.context, self.reasoner.spec.vocab_size)

    def check(self, caller: Caller, model: str | None) -> Reasoner:
        """The model, if the caller may use it now. Raises Refused: 403, 404, 429, 503."""
        if self.draining:
            raise shutting_down()
        caller.check_model(model or self.model)
        if model not in (None, "", self.model):
            raise unknown_model(str(model), self.model)
        self.admission.check(caller)
        return self.reasoner

    async def book(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call what may wait for the database."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._books, lambda: function(*args, **kwargs))

    async def read(self, caller: Caller, order_of: Callable[[B, Service], Order], body: B) -> Order:
        """What a request asks: templates and long texts take a processor for a while."""
        loop = asyncio.get_running_loop()
        with self.admission.coming(caller):
            return await loop.run_in_executor(self._texts, order_of, body, self)

    def _became(self) -> None:
        """The engine's state has changed."""
        if self.engine.state == "ready":
            made = self.reasoner.settings
            self.admission.fit(Room(made.max_batch, made.cache_tokens * OVERCOMMIT))
        if self.engine.state == "failed":
            said = reason_of(self.engine.error)
            LOG.error("the engine has failed%s", said, exc_info=None if said else self.engine.error)
        for changed in self.on_change:
            changed(self.engine.state)

    async def _poke(self) -> None:
        """Now and then let every stream say that it is alive."""
        while True:
            await asyncio.sleep(self.settings.keep_alive_seconds)
            for job in list(self.jobs.values()):
                job.poke()
