"""/v1/chat/completions: messages in, thinking and answer out, whole or as they come.

Not covered: how the answer looks (chat_view.py).
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from raison.serve.access import Caller
from raison.serve.asking import Order, asked_budget, choices, grammar_of, sampling
from raison.serve.chat_view import ChatView, VoteView
from raison.serve.conversation import chat_ids, last_question
from raison.serve.job import Job
from raison.serve.judging import plan
from raison.serve.mistake import Mistake
from raison.serve.protocol import ChatRequest
from raison.serve.refused import REFUSALS
from raison.serve.service import Service
from raison.serve.streaming import answered
from raison.serve.tools import offered, read_calls, required
from raison.serve.voting import VoteJob

router = APIRouter()
ENDPOINT = "/v1/chat/completions"


@router.post(ENDPOINT, responses=REFUSALS)
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """Answer a conversation (OpenAI's chat completions, with DeepSeek's fields for reasoning)."""
    service: Service = request.app.state.service
    caller: Caller = request.state.caller
    service.check(caller, body.model)
    order = await service.read(caller, order_of, body)
    tools = read_calls(body, service.reasoner.tokenizer)
    if order.plan is None:
        job = Job(service, caller, order, "chatcmpl")
        return await answered(request, job, ChatView(job, body, tools), bool(body.stream))
    vote = VoteJob(service, caller, order, "chatcmpl")
    return await answered(request, vote, VoteView(vote, body, tools), bool(body.stream))


def order_of(body: ChatRequest, service: Service, endpoint: str = ENDPOINT) -> Order:
    """What the engine is asked. Raises Mistake, or UserError."""
    settings, reasoner, context = service.settings, service.reasoner, service.context
    tokenizer, n = reasoner.tokenizer, choices(body.n, settings)
    if body.strategy is not None and n > 1:
        raise Mistake("a strategy chooses one answer; leave n out, and say max_samples in strategy", "n")
    budget = asked_budget(body, reasoner.provenance, context)
    ids = chat_ids(
        tokenizer, body.messages, tools=offered(body, tokenizer), thinking=budget != 0,
        variables=body.chat_template_kwargs,
    )  # fmt: skip
    params = sampling(
        body, len(ids), service.reach, settings, most=body.max_completion_tokens or body.max_tokens, budget=budget,
        thinks=bool(tokenizer.ends_thinking_open(ids)), least=body.min_thinking_tokens or 0, top=body.top_logprobs,
        grammar=required(body, tokenizer, settings) or grammar_of(body.response_format, settings),
    )  # fmt: skip
    found = None
    if body.strategy is not None:
        most = settings.max_choices
        found = plan(body.strategy, last_question(body.messages), params.max_tokens, most, service.checkers)
    return Order(endpoint, service.model, (tuple(ids),), params, n, bool(body.logprobs), found)
