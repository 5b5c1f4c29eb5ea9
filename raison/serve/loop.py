"""The engine's thread: one thread owns an Engine and steps it; the asyncio side starts and cancels branches and hears.

What is asked goes in through a queue, and is taken between two steps. What is told comes out once a step, not once a
token, and a loop that is behind finds several steps at once. Nothing on the asyncio side ever waits for a step. A step
that fails ends every branch with the error and the thread with it; health then says so. Not covered: who may start
what and when (admission.py), when what is told is handed out (post.py), what becomes of it (outbox.py, sampler.py).
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from raison.engine.sequence import Event, SamplingParams, Stats
from raison.errors import UserError
from raison.serve.mistake import unavailable
from raison.serve.post import Post
from raison.serve.refusal import Refused

if TYPE_CHECKING:
    from raison.engine.engine import Engine
    from raison.reasoner import Reasoner

State = Literal["loading", "ready", "failed", "stopped"]
Command: TypeAlias = "Callable[[Engine], None]"


class Listener(Protocol):
    """Who hears branches; called on the event loop."""

    def hear(self, branch: int, events: Sequence[Event], at: float) -> None:
        """What one step told of a branch. `at`: time.perf_counter() after the step."""

    def fail(self, error: BaseException) -> None:
        """The engine is gone; no branch will be heard of again."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One branch to be drawn."""

    number: int
    prompt: Sequence[int]
    params: SamplingParams
    sample: int
    """Which of the samples of its parameters' seed it is (engine.sequence.sample_seed)."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One request's branches in the engine."""

    listener: Listener
    tenant: str
    sequences: dict[int, int] = field(default_factory=dict)
    """Branch -> the engine's number; the engine's thread alone reads and writes it."""


Told: TypeAlias = tuple[Ticket, int, list[Event], float]
"""Whose branch, which one, what a step told of it, and when."""


class EngineLoop:
    """Made and used on the event loop; `start_thread` begins loading, `state` tells how far it is."""

    def __init__(self, load: Callable[[], Reasoner]) -> None:
        self.state: State = "loading"
        self.error: BaseException | None = None
        self.reasoner: Reasoner | None = None
        self.stats: Stats | None = None
        """As of the last step; never waits for one."""
        self._load = load
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._listening: dict[int, tuple[Ticket, int]] = {}
        self._post: Post[Told] = Post(_hand)
        self._starting: set[asyncio.Future[None]] = set()
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)

    def start_thread(self, changed: Callable[[], None]) -> None:
        """`changed` is called on the event loop when the state changes."""
        self._loop, self._changed = asyncio.get_running_loop(), changed
        self._post.open(self._loop)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the step it is in."""
        self._commands.put(self._stop)
        if self.state != "loading" and self._thread.ident is not None:
            self._thread.join()

    async def start(self, ticket: Ticket, draws: Sequence[Draw]) -> None:
        """Queue branches. Raises UserError as Engine.submit does; none of them is then under way."""
        if self.state != "ready":
            raise gone(self.error)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._starting.add(done)
        done.add_done_callback(self._starting.discard)

        def command(engine: Engine) -> None:
            try:
                self._submit(engine, ticket, draws)
            except Exception as error:
                self._cancel(engine, ticket, [draw.number for draw in draws])
                self._call(_resolve, done, error)
            else:
                self._call(_resolve, done, None)

        self._commands.put(command)
        await done

    def cancel(self, ticket: Ticket, branches: Iterable[int] | None = None) -> None:
        """Stop branches (None = all of the ticket); their ends are heard. Ended ones are no error."""
        chosen = None if branches is None else list(branches)
        self._commands.put(lambda engine: self._cancel(engine, ticket, chosen))

    def _submit(self, engine: Engine, ticket: Ticket, draws: Sequence[Draw]) -> None:
        for same in _alike(draws):
            first = same[0]
            numbers = engine.submit(first.prompt, first.params, len(same), ticket.tenant, first=first.sample)
            for draw, number in zip(same, numbers, strict=True):
                ticket.sequences[draw.number] = number
                self._listening[number] = ticket, draw.number

    def _cancel(self, engine: Engine, ticket: Ticket, branches: Sequence[int] | None) -> None:
        for branch in list(ticket.sequences) if branches is None else branches:
            if branch in ticket.sequences:
                engine.cancel(ticket.sequences[branch])

    def _main(self) -> None:
        try:
            self.reasoner = self._load()
            engine = self.reasoner.engine
            self.stats = engine.stats
            self._become("ready")
            while self._obey(engine):
                events = engine.step()
                self.stats = engine.stats
                self._tell(events, more=bool(self.stats.running or self.stats.waiting))
        except BaseException as error:
            self._fail(error)

    def _obey(self, engine: Engine) -> bool:
        """Take what is asked, waiting where there is nothing else to do; False to stop."""
        assert self.stats is not None
        idle = not (self.stats.running or self.stats.waiting)
        try:
            command = self._commands.get(block=idle)
            while True:
                if command == self._stop:
                    self._become("stopped")
                    return False
                command(engine)
                command = self._commands.get_nowait()
        except queue.Empty:
            return True

    def _stop(self, engine: Engine) -> None:
        """What `stop` asks for; `_obey` knows it."""

    def _tell(self, events: Sequence[Event], more: bool) -> None:
        """`more`: whether another step follows."""
        now = time.perf_counter()
        told = [(*self._heard_by(number, own), own, now) for number, own in by_sequence(events)]
        self._post.put(told, more)

    def _heard_by(self, number: int, events: Sequence[Event]) -> tuple[Ticket, int]:
        """Whose sequence it is, and which branch; forgotten where it has ended."""
        ticket, branch = self._listening[number]
        if events[-1].finished is not None:
            del self._listening[number], ticket.sequences[branch]
        return ticket, branch

    def _fail(self, error: BaseException) -> None:
        self.error = error
        self._become("failed")
        self._call(self._told_of_failure)

    def _told_of_failure(self) -> None:
        """On the event loop; the engine's thread has ended and owns nothing any more."""
        assert self.error is not None
        self._post.deliver()  # what was drawn is heard, and billed
        for done in [done for done in self._starting if not done.done()]:
            done.set_exception(gone(self.error))
        for ticket in {id(ticket): ticket for ticket, _ in self._listening.values()}.values():
            ticket.listener.fail(gone(self.error))

    def _become(self, state: State) -> None:
        self.state = state
        self._call(self._changed)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)


def _hand(told: Told) -> None:
    ticket, branch, events, at = told
    ticket.listener.hear(branch, events, at)


def gone(error: BaseException | None) -> Refused:
    """What is raised where no engine runs any more."""
    return unavailable(f"the engine has stopped{reason_of(error)}; the server must be restarted", "engine_failed", 30)


def reason_of(error: BaseException | None) -> str:
    """What is told of the error that an engine failed with: a user's mistake in its own words, of ours nothing."""
    return f": {error}" if isinstance(error, UserError) else ""


def _resolve(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():  # whoever asked has gone
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def by_sequence(events: Sequence[Event]) -> Iterator[tuple[int, list[Event]]]:
    """Runs of events of one sequence; a step tells a sequence's events one after the other."""
    return ((number, list(own)) for number, own in groupby(events, attrgetter("sequence_id")))


def _alike(draws: Sequence[Draw]) -> Iterator[Sequence[Draw]]:
    """Runs of draws that the engine takes as samples of one prompt, and whose prompt it computes once."""
    run: list[Draw] = []
    for draw in draws:
        if run and (draw.sample, draw.prompt, draw.params) != (run[-1].sample + 1, run[0].prompt, run[0].params):
            yield run
            run = []
        run.append(draw)
    if run:
        yield run
