"""The one way in: everything needs a caller whom the books know, but /health and the page's own files.

An ASGI middleware in front of every route, so that a route added later is closed until somebody opens it here. On a
server without keys, which serves this machine only, the Host must be a name of this machine: a website cannot reach it
by giving its own name this machine's address (DNS rebinding). Not covered: what a key may use (access.py).
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raison.serve.access import Caller, sole_authorization
from raison.serve.mistake import Mistake
from raison.serve.page.page import is_page
from raison.serve.refusal import Denied, Refused
from raison.serve.refused import refuse
from raison.serve.service import Service

PATIENCE = 16
"""Bodies of up to so many times the limit are read to their end, and thrown away."""
SHUT = {"Connection": "close"}
LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))


def is_open(path: str, method: str) -> bool:
    """What needs no key."""
    return method in ("GET", "HEAD") and (path == "/health" or is_page(path))


class Gate:
    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        self._asked: dict[str | None, asyncio.Future[Caller]] = {}
        """By Authorization header: questions to the books that no thread has begun to answer yet."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"], scope["method"]):
            request = Request(scope)
            request.state.arrived = time.time_ns()
            try:
                request.state.caller = await self._caller(request)
                receive = await self._limited(request, receive)
            except Refused as error:
                await refuse(request, error)(scope, receive, send)
                return
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        await self._app(scope, receive, send)

    async def _caller(self, request: Request) -> Caller:
        caller = await self.known(sole_authorization(request.headers.raw))
        if caller.key == "local" and hostname(request.headers.get("host", "")) not in LOOPBACK:
            raise Denied(
                "this server has no keys and answers this machine only; its address must be localhost or 127.0.0.1",
                403, "invalid_request_error", "loopback_only",
            )  # fmt: skip
        return caller

    async def known(self, authorization: str | None) -> Caller:
        """Who sent that header. A crowd that sent the same one before the books were opened is told of one look."""
        asked = self._asked.get(authorization)
        if asked is None:
            asked = asyncio.ensure_future(self._service.book(self._look_up, authorization))
            asked.add_done_callback(_heed)
            self._asked[authorization] = asked
        return await asyncio.shield(asked)

    def _look_up(self, authorization: str | None) -> Caller:
        """In a thread. Who asks after this line wants a later look."""
        self._asked.pop(authorization, None)
        return self._service.access.caller(authorization)

    async def _limited(self, request: Request, receive: Receive) -> Receive:
        """The same body, which may not be too large or too slow. One that says itself that it is too large is refused
        once it has come, for who still sends hears no answer; one that does not say is counted as it is read.
        """
        receive = self._timed(receive)
        most, said = self._service.settings.max_body_bytes, request.headers.get("content-length", "0")
        size = int(said) if said.isdecimal() else 0
        if size > most:
            with suppress(HTTPException):
                while size <= PATIENCE * most and (await receive()).get("more_body"):
                    pass
            raise Mistake(f"the body has {size} bytes; at most {most} are taken", None, "body_too_large", 413)
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise HTTPException(413, f"the body has more than {most} bytes")
            return message

        return counted

    def _timed(self, receive: Receive) -> Receive:
        """The same messages; those of the body must come in time, and a caller may leave whenever it wants."""
        seconds, whole = self._service.settings.body_seconds, False
        late = asyncio.get_running_loop().time() + seconds

        async def timed() -> Message:
            nonlocal whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(late):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the body did not come within {seconds:g} s", SHUT) from None
            whole = not message.get("more_body")
            return message

        return timed


def _heed(asked: asyncio.Future[Caller]) -> None:
    """An error that nobody waits for any more is no news."""
    if not asked.cancelled():
        asked.exception()


def hostname(host: str) -> str | None:
    """A Host header without its port, brackets and case."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
