"""One thread that writes: what many requests want written at once goes into one transaction (group commit).

A caller returns after the commit that holds its work. SQLite has one writer at a time anyway, and forcing a commit to
disk costs the same for one row and for a hundred. Works are ordered by the row they lock, so that two servers cannot
wait for each other. Not covered: what is written; processes that fork while it runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from raison.serve.refusal import Refused

T = TypeVar("T")
Work = Callable[[Connection], T]
MOST_AT_ONCE = 256
ATTEMPTS = 3
PAUSE = 0.05
"""Seconds before a second attempt; then twice that."""


@dataclass(frozen=True, slots=True)
class _Job:
    lock: str
    work: Work[Any]
    result: Future[Any] = field(default_factory=Future)


class Writer:
    """Runs works on one connection of `engine`, many in a transaction. `close` waits until all are done."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="database writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work[T], lock: str = "") -> T:
        """What `work` returns, once it is committed.

        Args:
            work: may run more than once, when a commit failed or its answer was lost, so it must be idempotent. It may
                raise Refused before it has written anything; other works of the transaction are then committed.
            lock: names the row that it locks first.

        Raises what `work` raises, or SQLAlchemy's errors after three attempts.
        """
        job = _Job(lock, work)
        with self._closing:
            if self._closed:
                raise RuntimeError("the database is closed")
            self._queue.put(job)
        result: T = job.result.result()
        return result

    def close(self) -> None:
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            jobs, last = self._gather(first)
            self._commit(sorted(jobs, key=lambda job: job.lock))
            if last:
                return

    def _gather(self, first: _Job) -> tuple[list[_Job], bool]:
        """All that waits by now, and whether the end was among it."""
        jobs = [first]
        while len(jobs) < MOST_AT_ONCE:
            try:
                job = self._queue.get_nowait()
            except Empty:
                return jobs, False
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _commit(self, jobs: Sequence[_Job]) -> None:
        try:
            outcomes = self._transaction(jobs)
        except Exception as error:  # of the database or of one work: the others must not suffer for it
            self._one_by_one(jobs, error)
        else:
            for job, outcome in zip(jobs, outcomes, strict=True):
                _tell(job, outcome)

    def _transaction(self, jobs: Sequence[_Job]) -> list[Any]:
        with self._engine.begin() as connection:
            return [_attempt(job, connection) for job in jobs]

    def _one_by_one(self, jobs: Sequence[_Job], error: Exception) -> None:
        for job in jobs:
            _tell(job, self._patiently(job, error))

    def _patiently(self, job: _Job, error: Exception) -> Any:
        """The job's outcome in a transaction of its own, or the last error."""
        for attempt in range(ATTEMPTS - 1):
            if isinstance(error, OperationalError):
                time.sleep(PAUSE * 2**attempt)
            try:
                return self._transaction([job])[0]
            except Exception as again:
                error = again
        return error


def _attempt(job: _Job, connection: Connection) -> Any:
    try:
        return job.work(connection)
    except Refused as refused:
        return refused


def _tell(job: _Job, outcome: Any) -> None:
    if isinstance(outcome, Exception):
        job.result.set_exception(outcome)
    else:
        job.result.set_result(outcome)
