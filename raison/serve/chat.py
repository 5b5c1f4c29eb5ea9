"""/v1/chat/completions: messages in, thinking and answer out, whole or as they come.

Not covered: answers drawn by a strategy (voting.py), tools (tools.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from raison.records import Completion
from raison.serve.access import Caller
from raison.serve.answer import NAMES, Frame, in_order, quote, reasoning, whole
from raison.serve.asking import Order, asked_budget, choices, grammar_of, sampling
from raison.serve.conversation import chat_ids, thinks
from raison.serve.job import Job
from raison.serve.outbox import Said
from raison.serve.protocol import ChatRequest
from raison.serve.refused import REFUSALS
from raison.serve.service import Service
from raison.serve.streaming import DONE, KEEP_ALIVE, EventStream, unless_gone

router = APIRouter()
ENDPOINT = "/v1/chat/completions"
WHOLE, CHUNK = "chat.completion", "chat.completion.chunk"


@router.post(ENDPOINT, responses=REFUSALS)
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """Answer a conversation (OpenAI's chat completions, with DeepSeek's fields for reasoning)."""
    service: Service = request.app.state.service
    caller: Caller = request.state.caller
    service.check(caller, body.model)
    order = await service.read(order_of, body, service)
    job = Job(service, caller, order, "chatcmpl")
    if await unless_gone(request.receive, _begun(job), job.cancel) is None:
        return Response(status_code=499)
    view = ChatView(job, body)
    if body.stream:
        return EventStream(view.stream(), job.cancel)
    answer = await unless_gone(request.receive, view.whole(), job.cancel)
    return Response(status_code=499) if answer is None else JSONResponse(answer)


async def _begun(job: Job) -> bool:
    await job.begin()
    return True


def order_of(body: ChatRequest, service: Service) -> Order:
    """What the engine is asked. Raises Mistake, or UserError."""
    settings, reasoner, context = service.settings, service.reasoner, service.context
    n = choices(body.n, settings)
    budget = asked_budget(body, reasoner.provenance, context)
    ids = chat_ids(reasoner.tokenizer, body.messages, thinking=budget != 0, variables=body.chat_template_kwargs)
    params = sampling(
        body, len(ids), context, settings, most=body.max_completion_tokens or body.max_tokens, budget=budget,
        thinks=thinks(reasoner.tokenizer, ids), grammar=grammar_of(body.response_format, settings),
    )  # fmt: skip
    tokens = bool(body.logprobs or body.return_token_ids)
    return Order(ENDPOINT, service.model, (tuple(ids),), params, n, tokens)


class ChatView:
    """One job as a chat client sees it."""

    def __init__(self, job: Job, body: ChatRequest) -> None:
        self.job, self.body = job, body
        self.field = job.service.settings.reasoning_field
        self.frame = Frame(job, CHUNK)
        self.shows_thinking = body.include_reasoning is not False

    async def whole(self) -> dict[str, Any]:
        async for _ in self.job.said():
            pass
        used = await self.job.settled()
        return whole(self.job, WHOLE, [self._choice(i, one) for i, one in in_order(self.job.completions)], used)

    async def stream(self) -> AsyncIterator[bytes]:
        """Role, thinking, answer, then how it ended, usage if asked for, and [DONE]. The end waits for the books."""
        first = "".join(
            self.frame.choice(i, '"delta":{"role":"assistant","content":""}') for i in range(self.job.order.n)
        )
        yield first.encode()
        ends = ""
        async for said in self.job.said():
            chunk = ends + "".join(map(self._chunks, said))
            ends = "".join(map(self._end, said))
            yield chunk.encode() or KEEP_ALIVE
        used = await self.job.settled()
        options = self.body.stream_options
        yield ends.encode()
        if options is not None and options.include_usage:
            yield self.frame.last(used).encode()
        yield DONE

    def _chunks(self, said: Said) -> str:
        """What one branch said since: thinking and answer are chunks of their own."""
        text = ""
        if said.thinking and self.shows_thinking:
            quoted = quote(said.thinking)
            body = ",".join(f'"{name}":{quoted}' for name in NAMES[self.field])
            text += self.frame.choice(said.branch, f'"delta":{{{body}}}')
        if said.answer:
            text += self.frame.choice(said.branch, f'"delta":{{"content":{quote(said.answer)}}}')
        return text

    def _end(self, said: Said) -> str:
        if said.finished is None:
            return ""
        return self.frame.choice(said.branch, '"delta":{}', said.finished.finish_reason)

    def _choice(self, index: int, one: Completion) -> dict[str, Any]:
        """Cut thoughts are never an answer: content is null where none was begun."""
        content = one.answer if one.answer_tokens or one.finish_reason == "stop" else None
        thinking = reasoning(one.thinking or None, self.field) if self.shows_thinking else {}
        message = {"role": "assistant", "content": content, **thinking}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": one.finish_reason}
