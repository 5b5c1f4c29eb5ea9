"""From the engine's thread to the event loop: what was told, handed out soon, and not so often that the engine suffers.

The loop is woken as the engine's next step begins, for native code leaves Python to others. Between two rounds it
pauses in proportion to what a round took, so that a fast model's tokens are told some at a time; a slow one's steps are
longer than any pause, and each of its tokens is handed out at once. Not covered: who hears what (loop.py).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
PACE_SECONDS = 0.005
"""Rounds follow each other at most so soon: nobody reads faster, and each costs every stream a chunk."""
PAUSE = 4
"""And after so many times as long as the last one took: the engine wants the processor too."""
LONGEST_PAUSE = 0.008
"""However long it took; where there are many streams, they wait for each other anyway."""
GRACE = 0.003
"""Seconds beyond the pause in which the engine may still choose the moment."""


class Post(Generic[T]):
    """`put` is called in the engine's thread, `hand` on the event loop, once for each thing put, in order."""

    def __init__(self, hand: Callable[[T], None]) -> None:
        self._hand = hand
        self._put: list[T] = []
        self._more = self._ringing = False
        """Whether another step follows, and whether a round is under way or about to be."""
        self._next = 0.0
        """Before that moment (time.perf_counter()) no round is wanted."""
        self._lock = threading.Lock()
        self._timer: asyncio.TimerHandle | None = None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Where rounds are made; before the first `put`."""
        self._loop = loop

    def put(self, things: Sequence[T], more: bool) -> None:
        """`more`: whether another step follows at once."""
        with self._lock:
            self._put += things
            self._more = more
            ring = bool(self._put) and not self._ringing and (time.perf_counter() >= self._next or not more)
            self._ringing |= ring
        if ring and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.deliver)

    def deliver(self) -> None:
        """A round, on the event loop: all that was put is handed out."""
        with self._lock:
            put, self._put = self._put, []
            self._ringing |= bool(put)
        if not put:
            return
        begun = time.thread_time()
        for thing in put:
            try:
                self._hand(thing)
            except Exception as error:  # one listener's, while all the others wait for theirs
                self._loop.call_exception_handler({"message": "what was told was not heard", "exception": error})
        self._loop.call_soon(self._pause, begun)  # after the readers that were woken

    def _pause(self, begun: float) -> None:
        """Let the engine ring with the first step after the pause; the timer is for one that is long or never comes.
        Where no step followed there is none: the next may be the first of many, before a long one.
        """
        took = time.thread_time() - begun
        with self._lock:
            pause = min(max(PACE_SECONDS, PAUSE * took), LONGEST_PAUSE) if self._more else 0.0
            self._ringing, self._next = False, time.perf_counter() + pause
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(pause + GRACE if pause else 0.0, self.deliver)
