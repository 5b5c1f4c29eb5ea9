"""Who goes next when there is more to do than fits: a bounded queue, higher priority first, fair between keys.

Fair means deficit round robin over tokens (Shreedhar & Varghese 1995): keys take turns, each turn is worth the same
number of tokens, and what a turn did not use is saved. A request counts for the most it may use; what it did not use
is given back to its key when it ends, so that cautious limits cost nobody their share (the counters of Sheng et al.
2024 are charged as tokens come; ours are corrected afterwards). When the queue is full, the key that holds most of it
gives up its newest request, so that nobody can fill it against the others (longest queue drop, Suter et al. 1998).
Not covered: a key's own rates and quotas (access.py), order within the engine, which is that of arrival.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from raison.serve.access import Caller
from raison.serve.refusal import Limited

QUANTUM = 1024
"""Tokens of one turn."""
LONGEST_RETRY = 60.0
SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class Room:
    """What requests may hold at once: sequences, and tokens (prompts and the most they may generate)."""

    branches: int
    tokens: int


@dataclass(slots=True, eq=False)
class Place:
    """One request, waiting or admitted."""

    caller: Caller
    branches: int
    tokens: int
    turn: asyncio.Future[None]
    admitted_at: float | None = None


@dataclass(slots=True)
class Line:
    """One key's waiting requests."""

    priority: int
    waiting: deque[Place] = field(default_factory=deque)
    tokens: int = 0
    deficit: int = 0


class Admission:
    """Lives on the event loop. `running`, `waiting` and `waiting_tokens` are for showing."""

    def __init__(self, room: Room, queued_requests: int, queued_tokens: int) -> None:
        self.running = self.waiting = self.waiting_tokens = 0
        self._room, self._free = room, [room.branches, room.tokens]
        self._most_requests, self._most_tokens = queued_requests, queued_tokens
        self._lines: dict[str, Line] = {}
        self._turns: deque[str] = deque()
        self._coming: Counter[str] = Counter()
        """Requests of each key that are on their way to the queue."""
        self._seconds = 1.0
        """How long a request runs, on average of late."""

    def fit(self, room: Room) -> None:
        """There is so much room from now on; those who were admitted before keep their places."""
        self._free[0] += room.branches - self._room.branches
        self._free[1] += room.tokens - self._room.tokens
        self._room = room
        self._dispatch()

    def check(self, caller: Caller) -> None:
        """Raises Limited where `enter` would turn away a request of one token, so that a crowd that comes in one moment
        is told so before its requests are read.
        """
        room = self._most_requests + (0 if self.waiting else self._free[0])
        if self.waiting + self._coming.total() < room:
            return
        line = self._lines.get(caller.key)
        crowding = self._coming[caller.key]
        if (line is not None and line is self._longest()) or (crowding and crowding == max(self._coming.values())):
            raise self._full()

    @contextmanager
    def coming(self, caller: Caller) -> Iterator[None]:
        """A request on its way to the queue, which may soon be full of those who are."""
        self._coming[caller.key] += 1
        try:
            yield
        finally:
            self._coming[caller.key] -= 1
            if not self._coming[caller.key]:
                del self._coming[caller.key]

    async def enter(self, caller: Caller, branches: int, tokens: int) -> Place:
        """Wait for a turn. What is larger than all there is counts as all there is. Raises Limited when full."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = Place(caller, min(branches, self._room.branches), min(tokens, self._room.tokens), turn)
        self._queue(place)
        self._dispatch()
        try:
            self._shed()
            await turn
        except BaseException:
            self._withdraw(place)
            raise
        return place

    def leave(self, place: Place, used_tokens: int) -> None:
        """The request has ended and used so many tokens."""
        assert place.admitted_at is not None
        self.running -= 1
        self._free[0] += place.branches
        self._free[1] += place.tokens
        self._seconds += SMOOTHING * (time.monotonic() - place.admitted_at - self._seconds)
        line = self._lines.get(place.caller.key)
        if line is not None:
            line.deficit += max(0, place.tokens - used_tokens)
        self._dispatch()

    @property
    def retry_after(self) -> float:
        """Seconds until the queue has emptied, by Little's law."""
        return min(LONGEST_RETRY, max(1.0, math.ceil(self._seconds * self.waiting / max(self.running, 1))))

    def _queue(self, place: Place) -> None:
        key = place.caller.key
        if key not in self._lines:
            self._lines[key] = Line(place.caller.priority)
            self._turns.append(key)
        self._lines[key].waiting.append(place)
        self._lines[key].tokens += place.tokens
        self.waiting += 1
        self.waiting_tokens += place.tokens

    def _dispatch(self) -> None:
        """Admit as many as fit, in order; nobody overtakes a request that is next and does not fit yet."""
        while self._turns:
            key = self._next()
            line = self._lines[key]
            place = line.waiting[0]
            if place.turn.done():  # whoever waited has gone
                self._take(key, place)
                continue
            if place.branches > self._free[0] or place.tokens > self._free[1]:
                return
            line.deficit -= place.tokens
            self._take(key, place)
            self._free[0] -= place.branches
            self._free[1] -= place.tokens
            self.running += 1
            place.admitted_at = time.monotonic()
            place.turn.set_result(None)

    def _next(self) -> str:
        """The key whose turn it is, among those of the highest priority that wait."""
        highest = max(self._lines[key].priority for key in self._turns)
        while True:
            key = self._turns[0]
            line = self._lines[key]
            if line.priority == highest:
                if line.deficit >= line.waiting[0].tokens:
                    return key
                line.deficit += QUANTUM
            self._turns.rotate(-1)

    def _shed(self) -> None:
        """Turn the newest of the longest lines away until the rest fits."""
        while self.waiting > self._most_requests or self.waiting_tokens > self._most_tokens:
            place = self._longest().waiting[-1]
            self._take(place.caller.key, place)
            if not place.turn.done():
                place.turn.set_exception(self._full())

    def _longest(self) -> Line:
        """The line that holds most tokens."""
        return max(self._lines.values(), key=lambda line: line.tokens)

    def _full(self) -> Limited:
        wait = self.retry_after
        why = f"{self.waiting + self._coming.total()} requests are waiting and no more may; try again in {wait:.0f} s"
        return Limited(why, "rate_limit_error", "queue_full", wait)

    def _withdraw(self, place: Place) -> None:
        """Whoever waited has gone, or was turned away."""
        if place.admitted_at is not None:
            self.leave(place, 0)
        elif place in self._lines.get(place.caller.key, Line(0)).waiting:
            self._take(place.caller.key, place)
            self._dispatch()

    def _take(self, key: str, place: Place) -> None:
        line = self._lines[key]
        line.waiting.remove(place)
        line.tokens -= place.tokens
        self.waiting -= 1
        self.waiting_tokens -= place.tokens
        if not line.waiting:  # an idle key saves nothing
            del self._lines[key]
            self._turns.remove(key)
