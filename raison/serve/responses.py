"""/v1/responses: OpenAI's newer shape of a conversation, as a chat request underneath.

The server keeps nothing between requests, so a conversation is sent whole each time: `previous_response_id` is refused,
`store` has no effect. Thinking comes as an item of type "reasoning" with its text. Not covered: hosted tools, files,
images, strategies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, ValidationError

from raison.serve import chat
from raison.serve.access import Caller
from raison.serve.asking import Order
from raison.serve.job import Job
from raison.serve.mistake import Mistake
from raison.serve.protocol import ChatRequest, Count, Effort, Finite
from raison.serve.refused import REFUSALS
from raison.serve.responses_view import ResponseView
from raison.serve.service import Service
from raison.serve.streaming import answered
from raison.serve.tools import read_calls

router = APIRouter()
ENDPOINT = "/v1/responses"
MOST_NESTING = 64
"""Levels of JSON, as many as chat templates are given."""


class Reasoning(BaseModel):
    effort: Effort | None = None


class Format(BaseModel):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class Text(BaseModel):
    format: Format | None = None


class FlatTool(BaseModel):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ResponsesRequest(BaseModel):
    model: str | None = None
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    temperature: Annotated[Finite, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Finite, Field(gt=0, le=1)] | None = None
    stream: bool | None = None
    reasoning: Reasoning | None = None
    text: Text | None = None
    tools: list[FlatTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, Any] | None = None
    """Repeated in the response, and nothing else."""
    previous_response_id: str | None = None
    seed: int | None = None
    thinking_token_budget: Annotated[int, Field(ge=0, le=1 << 31)] | None = None


@router.post(ENDPOINT, responses=REFUSALS)
async def responses(body: ResponsesRequest, request: Request) -> Response:
    """Answer a conversation (OpenAI's responses)."""
    service: Service = request.app.state.service
    caller: Caller = request.state.caller
    service.check(caller, body.model)
    asked, order = repeated(body), await service.read(caller, order_of, body)
    job = Job(service, caller, order, "resp")
    view = ResponseView(job, asked, read_calls(body, service.reasoner.tokenizer))
    return await answered(request, job, view, bool(body.stream))


def order_of(body: ResponsesRequest, service: Service) -> Order:
    return chat.order_of(as_chat(body), service, ENDPOINT)


def repeated(body: ResponsesRequest) -> dict[str, Any]:
    """The fields that a response repeats. Raises Mistake where it could not, for JSON cannot say them."""
    fields = body.model_dump(exclude={"input", "stream"}, by_alias=True)
    try:
        sound = not _deeper(fields, MOST_NESTING) and json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        sound = False
    if not sound:
        raise Mistake(
            "the response would have to repeat NaN, an infinity, half of a surrogate pair, or more than "
            f"{MOST_NESTING} levels of nesting; leave them out of tools, text, metadata and tool_choice"
        )
    return fields


def _deeper(value: Any, most: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(most == 0 or _deeper(one, most - 1) for one in inner)


def as_chat(body: ResponsesRequest) -> ChatRequest:
    """The same request in the shape of chat completions. Raises Mistake."""
    if body.previous_response_id:
        raise Mistake("this server keeps no responses; send the whole conversation as input", "previous_response_id")
    fields: dict[str, Any] = {
        "messages": list(_messages(body)), "max_completion_tokens": body.max_output_tokens,
        "temperature": body.temperature, "top_p": body.top_p, "seed": body.seed,
        "thinking_token_budget": body.thinking_token_budget,
        "reasoning_effort": body.reasoning.effort if body.reasoning is not None else None,
        "response_format": _format(body), "tools": [_tool(tool) for tool in body.tools or []] or None,
        "tool_choice": _choice(body.tool_choice), "parallel_tool_calls": body.parallel_tool_calls,
    }  # fmt: skip
    try:
        return ChatRequest.model_validate(fields)
    except ValidationError as error:
        why = error.errors()[0]["msg"]
        raise Mistake(f"input cannot be read as a conversation: {why}", "input") from None


def _messages(body: ResponsesRequest) -> Iterator[dict[str, Any]]:
    """Messages of the input's items; an item of thoughts belongs to the assistant's message that follows it."""
    if body.instructions:
        yield {"role": "system", "content": body.instructions}
    if isinstance(body.input, str):
        yield {"role": "user", "content": body.input}
        return
    thoughts: dict[str, Any] = {}
    calls: list[dict[str, Any]] = []
    for item in body.input:
        kind = item.get("type", "message")
        if kind != "function_call":
            calls = []
        if kind == "reasoning":
            thoughts = {"reasoning_content": _texts(item.get("content") or item.get("summary"))}
        elif kind == "message":
            mine = thoughts if item.get("role") == "assistant" else {}
            yield {"role": item.get("role"), "content": _texts(item.get("content")), **mine}
            thoughts = {}
        elif kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            calls.append({"id": item.get("call_id"), "type": "function", "function": function})
            if len(calls) == 1:  # what follows at once is of the same turn, and of the same message
                yield {"role": "assistant", "content": "", "tool_calls": calls, **thoughts}
            thoughts = {}
        elif kind == "function_call_output":
            yield {"role": "tool", "content": _texts(item.get("output")), "tool_call_id": item.get("call_id")}
        else:
            raise Mistake(f'input has an item of type "{kind!s:.40}", which this server does not read', "input")


def _texts(content: Any) -> str:
    """Text of a string or of parts; Mistake for parts that are not text."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = content if isinstance(content, list) else [content]
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise Mistake("input holds something other than text; this model reads text only", "input")
    return "".join(part["text"] for part in parts)


def _format(body: ResponsesRequest) -> dict[str, Any] | None:
    form = body.text.format if body.text is not None else None
    if form is None:
        return None
    return {"type": form.type, "json_schema": {"name": form.name, "schema": form.schema_}}


def _tool(tool: FlatTool) -> dict[str, Any]:
    if tool.type != "function" or not tool.name:
        raise Mistake(f'a tool has the type "{tool.type:.40}"; only functions with a name are served', "tools")
    return {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}


def _choice(choice: str | dict[str, Any] | None) -> Any:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") != "function" or not isinstance(choice.get("name"), str):
        raise Mistake("tool_choice must be none, auto, required, or a function's name", "tool_choice")
    return {"type": "function", "function": {"name": choice["name"]}}
