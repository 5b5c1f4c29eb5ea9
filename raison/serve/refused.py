"""Whatever is raised, as OpenAI's error body: mistakes 4xx, what we got wrong 500, and how the schema documents them.

Not covered: errors after a stream has begun (streaming.py).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from raison.errors import UserError
from raison.serve.refusal import Refused, Unavailable

if TYPE_CHECKING:
    from raison.serve.service import Service

LOG = logging.getLogger("raison.serve")


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    error: ErrorDetail


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in (
        (400, "A mistake in the request"), (401, "No valid key"), (403, "Not allowed"), (404, "No such model"),
        (408, "Too slow a body"), (413, "Too large a body"),
        (422, "Not understood"), (429, "Too much: Retry-After says when to try again"),
        (503, "Loading, draining or failed"), (504, "Longer than the deadline"),
    )
}  # fmt: skip
"""For every endpoint's documentation."""


class EscapedJSON(JSONResponse):
    """In ASCII: a message may repeat half of a surrogate pair, which JSON can send and UTF-8 cannot."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode()


def respond(
    request: Request, status: int, body: dict[str, Any], headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The error as a response, counted, and traced where no job was."""
    service: Service | None = getattr(request.app.state, "service", None)
    if service is not None:
        code = str(body["error"]["code"])
        service.metrics.refused(status, code)
        if service.tracing is not None:
            service.tracing.refused(request, status, code)
    return EscapedJSON(body, status, headers)


def refuse(request: Request, error: Refused) -> JSONResponse:
    """The refusal as a response. What its sender is not told of the database is in the log."""
    if isinstance(error, Unavailable):
        LOG.error("the database failed: %s", error)
    return respond(request, error.status, error.body, error.headers)


def body_of(error: Exception) -> dict[str, Any]:
    """The error body of whatever was raised."""
    if isinstance(error, Refused):
        return error.body
    if isinstance(error, UserError):
        return plain_body(str(error), code="invalid_value")
    return plain_body("the server failed", "server_error", code="internal_error")


def plain_body(
    message: str, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def field_of(error: Mapping[str, Any], body: Any) -> str:
    """The field that is wrong, such as messages.0.content. Pydantic's place goes on with the branches of a union that
    it tried, and is a number of letters for what is no JSON at all.
    """
    source, *place = error["loc"]
    if source != "body" or error["type"] == "json_invalid":
        return "" if source == "body" else ".".join(map(str, place))
    found: list[str] = []
    for part in place:
        inside = part in body if isinstance(body, dict) else isinstance(body, list) and isinstance(part, int)
        if inside:
            body = body[part]
        if inside or (error["type"] == "missing" and part == place[-1]):
            found.append(str(part))
    return ".".join(found)


def install(app: FastAPI) -> None:
    """Handle every kind of error."""

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refused)
        return refuse(request, error)

    async def mistaken(request: Request, error: Exception) -> JSONResponse:
        return respond(request, 400, body_of(error))

    async def nested(request: Request, error: Exception) -> JSONResponse:
        LOG.warning("a request was nested too deep", exc_info=error)
        return respond(request, 400, plain_body("the request is nested too deep", code="invalid_value"))

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = field_of(first, error.body)
        message = f"{where}: {first['msg']}" if where else str(first["msg"])
        if not where and "json" not in request.headers.get("content-type", ""):
            message = "the body is not said to be JSON; send it with Content-Type: application/json"
        return respond(request, 400, plain_body(message[:500], param=where or None, code="invalid_value"))

    async def routed(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return respond(request, error.status_code, plain_body(str(error.detail), code="not_served"), error.headers)

    async def failed(request: Request, error: Exception) -> JSONResponse:
        return respond(request, 500, body_of(error))

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(UserError, mistaken)
    app.add_exception_handler(RecursionError, nested)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, routed)
    app.add_exception_handler(Exception, failed)
