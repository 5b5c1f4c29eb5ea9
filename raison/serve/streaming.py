"""Answers that come in pieces, as server-sent events, and the watch for clients that have gone.

Not covered: what the pieces say.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from raison.errors import UserError
from raison.serve import refused
from raison.serve.job import Job

R = TypeVar("R")
LOG = logging.getLogger("raison.serve")
GONE = 499
"""nginx's status for a client that did not wait; nobody reads it."""
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"),
           (b"x-accel-buffering", b"no")]  # fmt: skip


def event(value: Any, name: str = "") -> bytes:
    """One event with a JSON value."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, R], gone: Callable[[], None]) -> R | None:
    """What `work` returns; None when the client hangs up first: `gone` is called and `work` cancelled.

    Once the body is read, nothing comes from a client but the news that it has gone.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        gone()
        return None
    except asyncio.CancelledError:  # the server itself is being stopped
        gone()
        raise
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """A response whose events are sent as they come; `gone` is called if the client does not stay for all of them.

    What is raised on the way is sent as a last event with OpenAI's error body, for the status line has long been sent.
    """

    def __init__(self, events: AsyncIterator[bytes], gone: Callable[[], None]) -> None:
        super().__init__()
        self._events, self._gone = events, gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await unless_gone(receive, self._pump(send), self._gone)

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        try:
            async for chunk in self._events:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Exception as error:
            if not isinstance(error, UserError):
                LOG.error("a stream failed", exc_info=error)
            await _say(send, event(refused.body_of(error)))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class View(Protocol):
    """A job's answer as an endpoint shows it."""

    async def whole(self) -> dict[str, Any]: ...

    def stream(self) -> AsyncIterator[bytes]: ...


async def answered(request: Request, job: Job, view: View, stream: bool) -> Response:
    """Begin the job and answer; a client that hangs up cancels it. Raises what stands in the way of the first byte."""
    if (tracing := job.service.tracing) is not None:
        tracing.follow(job, request, stream)
    if not await unless_gone(request.receive, _begun(job), job.cancel):
        return Response(status_code=GONE)
    if stream:
        return EventStream(view.stream(), job.cancel)
    answer = await unless_gone(request.receive, view.whole(), job.cancel)
    return Response(status_code=GONE) if answer is None else JSONResponse(answer)


async def _begun(job: Job) -> bool:
    await job.begin()
    return True


def _say(send: Send, chunk: bytes) -> Awaitable[None]:
    return send({"type": "http.response.body", "body": chunk, "more_body": True})
