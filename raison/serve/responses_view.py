"""An answer as a client of /v1/responses sees it: items of output, and events that build them up.

Not covered: what was asked (responses.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from raison.records import Completion
from raison.serve.access import Used
from raison.serve.job import Job
from raison.serve.outbox import Said
from raison.serve.streaming import KEEP_ALIVE, event
from raison.serve.tool_text import ToolText

Value = dict[str, Any]


class ResponseView:
    """One job's answer; `asked` are the request's fields that a response repeats."""

    def __init__(self, job: Job, asked: Mapping[str, Any], tools: ToolText | None) -> None:
        self.job, self._asked, self._tools = job, asked, tools
        self._number = -1

    async def whole(self) -> Value:
        async for _ in self.job.said():
            pass
        return self._done(await self.job.settled())

    async def stream(self) -> AsyncIterator[bytes]:
        """Events in OpenAI's order; the last, with the usage, waits for the books."""
        yield self._event("response.created", response=self._response("in_progress", [], None))
        yield self._event("response.in_progress", response=self._response("in_progress", [], None))
        parts = Parts(self.job.id, None if self._tools is None else self._tools.fresh())
        async for said in self.job.said():
            told = [value for one in said for value in parts.take(one)]
            yield b"".join(self._event(**value) for value in told) or KEEP_ALIVE
        used = await self.job.settled()
        rest = b"".join(self._event(**value) for value in parts.end(self.job.completions[0]))
        done = self._done(used)
        yield rest + self._event(f"response.{done['status']}", response={**done, "output": parts.output})

    def _event(self, type: str, **fields: Any) -> bytes:
        self._number += 1
        return event({"type": type, "sequence_number": self._number, **fields}, type)

    def _done(self, used: Used) -> Value:
        completion = self.job.completions[0]
        return self._response(status_of(completion), items(self.job.id, completion, self._tools), used)

    def _response(self, status: str, output: list[Value], used: Used | None) -> Value:
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        defaults = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "metadata": {}}
        given = {name: value for name, value in self._asked.items() if value is not None}
        return {
            **defaults, **given, "id": self.job.id, "object": "response", "created_at": self.job.created,
            "status": status, "error": None, "incomplete_details": cut, "model": self.job.order.model,
            "output": output, "usage": None if used is None else usage(used),
        }  # fmt: skip


def status_of(completion: Completion) -> str:
    return "incomplete" if completion.finish_reason == "length" else "completed"


def usage(used: Used) -> Value:
    return {
        "input_tokens": used.prompt_tokens,
        "input_tokens_details": {"cached_tokens": used.cached_tokens},
        "output_tokens": used.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
        "total_tokens": used.prompt_tokens + used.completion_tokens,
    }


def items(name: str, completion: Completion, tools: ToolText | None) -> list[Value]:
    """Thoughts, message and calls of a whole answer."""
    text, calls = (completion.answer, []) if tools is None else tools.split(completion.answer)
    status = status_of(completion)
    output = [reasoning_item(name, completion.thinking)] if completion.thinking else []
    if text.strip() or not calls:
        output.append(message_item(name, text, status))
    return [*output, *(call_item(call, status) for call in calls)]


def reasoning_item(name: str, text: str) -> Value:
    return {"type": "reasoning", "id": f"rs_{name}", "summary": [], "content": [thought(text)], "status": "completed"}


def message_item(name: str, text: str, status: str) -> Value:
    return {"type": "message", "id": f"msg_{name}", "role": "assistant", "status": status, "content": [part(text)]}


def call_item(call: Value, status: str) -> Value:
    return {
        "type": "function_call",
        "id": f"fc_{call['id']}",
        "call_id": call["id"],
        "status": status,
        **call["function"],
    }


def thought(text: str) -> Value:
    return {"type": "reasoning_text", "text": text}


def part(text: str) -> Value:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class Parts:
    """Items as a stream builds them up: at most one of thoughts, then one message, then calls."""

    def __init__(self, name: str, tools: ToolText | None) -> None:
        self.output: list[Value] = []
        self._name, self._tools = name, tools
        self._open: Value | None = None
        self._text = ""

    def take(self, said: Said) -> Iterator[Value]:
        if said.thinking:
            yield from self._add("reasoning", said.thinking)
        text = said.answer if self._tools is None else self._tools.push(said.answer)
        if text:
            yield from self._add("message", text)

    def end(self, completion: Completion) -> Iterator[Value]:
        """What was held back, and the calls."""
        rest = "" if self._tools is None else self._tools.finish()
        calls = [] if self._tools is None else self._tools.calls
        if rest or (not calls and not (self._open and self._open["type"] == "message")):
            yield from self._add("message", rest)
        status = status_of(completion)
        yield from self._close(status)
        for call in calls:
            item, place = call_item(call, status), {"output_index": len(self.output)}
            begun = {**item, "arguments": "", "status": "in_progress"}
            yield {"type": "response.output_item.added", **place, "item": begun}
            named, arguments = {**place, "item_id": item["id"]}, item["arguments"]
            yield {"type": "response.function_call_arguments.delta", **named, "delta": arguments}
            done = {"name": item["name"], "arguments": arguments}
            yield {"type": "response.function_call_arguments.done", **named, **done}
            yield {"type": "response.output_item.done", **place, "item": item}
            self.output.append(item)

    def _add(self, kind: str, text: str) -> Iterator[Value]:
        if self._open is None or self._open["type"] != kind:
            yield from self._close("completed")
            yield from self._begin(kind)
        self._text += text
        name = "response.reasoning_text.delta" if kind == "reasoning" else "response.output_text.delta"
        more: Value = {} if kind == "reasoning" else {"logprobs": []}
        yield {"type": name, **self._place(), "delta": text, **more}

    def _begin(self, kind: str) -> Iterator[Value]:
        empty = reasoning_item(self._name, "") if kind == "reasoning" else message_item(self._name, "", "in_progress")
        self._open, self._text = empty, ""
        item = {**empty, "content": [], "status": "in_progress"}
        yield {"type": "response.output_item.added", "output_index": len(self.output), "item": item}
        yield {"type": "response.content_part.added", **self._place(), "part": empty["content"][0]}

    def _close(self, status: str) -> Iterator[Value]:
        if self._open is None:
            return
        thoughts = self._open["type"] == "reasoning"
        whole = reasoning_item(self._name, self._text) if thoughts else message_item(self._name, self._text, status)
        name = "response.reasoning_text.done" if thoughts else "response.output_text.done"
        yield {"type": name, **self._place(), "text": self._text, **({} if thoughts else {"logprobs": []})}
        yield {"type": "response.content_part.done", **self._place(), "part": whole["content"][0]}
        yield {"type": "response.output_item.done", "output_index": len(self.output), "item": whole}
        self.output.append(whole)
        self._open = None

    def _place(self) -> Value:
        assert self._open is not None
        return {"item_id": self._open["id"], "output_index": len(self.output), "content_index": 0}
