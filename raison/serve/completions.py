"""/v1/completions: plain text in, plain text out, several prompts at a time; prompts may be token ids.

What the model writes is one text: thinking that a prompt has opened comes with its tags. Not covered: `echo` with
log-probabilities of the prompt, `suffix`, `best_of`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response

from raison.engine.sequence import Event
from raison.records import Completion
from raison.serve.access import Caller
from raison.serve.answer import Frame, gathered, in_order, quote, whole
from raison.serve.asking import Order, choices, sampling
from raison.serve.conversation import characters
from raison.serve.job import Job
from raison.serve.logprobs import finite, token_text
from raison.serve.mistake import Mistake
from raison.serve.outbox import Said
from raison.serve.protocol import CompletionRequest
from raison.serve.refused import REFUSALS
from raison.serve.service import Service
from raison.serve.streaming import KEEP_ALIVE, answered
from raison.text.tokenizer import THINK_CLOSE, Tokenizer

router = APIRouter()
ENDPOINT = "/v1/completions"
KIND = "text_completion"
DEFAULT_TOKENS = 16
"""OpenAI's default for this endpoint."""


@router.post(ENDPOINT, responses=REFUSALS)
async def completions(body: CompletionRequest, request: Request) -> Response:
    """Go on from a text (OpenAI's older completions)."""
    service: Service = request.app.state.service
    caller: Caller = request.state.caller
    service.check(caller, body.model)
    job = Job(service, caller, await service.read(caller, order_of, body), "cmpl")
    view = TextView(job, body)
    return await answered(request, job, view, bool(body.stream))


def order_of(body: CompletionRequest, service: Service) -> Order:
    """What the engine is asked. Raises Mistake, or UserError."""
    if body.suffix or body.strategy is not None or (body.echo and body.logprobs is not None):
        raise Mistake("suffix, strategy, and echo with logprobs are not served here", None, "not_supported")
    settings, tokenizer = service.settings, service.reasoner.tokenizer
    prompts = tuple(map(tuple, prompts_of(body.prompt, tokenizer)))
    n = choices(body.n, settings)
    if not 0 < n * len(prompts) <= settings.max_choices:
        raise Mistake(f"{len(prompts)} prompts of {n} samples; at most {settings.max_choices} in all", "prompt")
    budgets = (body.thinking_token_budget, body.thinking_budget_tokens)
    params = sampling(
        body, max(map(len, prompts)), service.reach, settings, most=body.max_tokens or DEFAULT_TOKENS,
        budget=min((budget for budget in budgets if budget is not None), default=None),
        thinks=any(map(tokenizer.ends_thinking_open, prompts)), top=body.logprobs,
    )  # fmt: skip
    return Order(ENDPOINT, service.model, prompts, params, n, body.logprobs is not None)


def prompts_of(prompt: str | list[str] | list[int] | list[list[int]], tokenizer: Tokenizer) -> list[list[int]]:
    """Ids of every prompt; texts get the beginning of a document in front, ids are taken as they are."""
    if isinstance(prompt, str):
        prompt = [prompt]
    if not prompt:
        raise Mistake("the prompt is empty", "prompt")
    if isinstance(prompt[0], int):
        return [[int(i) for i in prompt if isinstance(i, int)]]
    start = [] if tokenizer.bos is None else [tokenizer.bos]
    found = []
    for one in prompt:
        found.append([*start, *tokenizer.encode(characters(one, "prompt"))] if isinstance(one, str) else list(one))
    if not all(found):
        raise Mistake("a prompt is empty", "prompt")
    return found


class TextView:
    """One job as a client of plain completions sees it."""

    def __init__(self, job: Job, body: CompletionRequest) -> None:
        self.job, self.body = job, body
        self._frame = Frame(job, KIND, body.stream_options)
        self._tokenizer = job.service.reasoner.tokenizer
        self._thought: set[int] = set()
        """Branches that have said thoughts, and not yet their end."""
        self._tokens: dict[int, list[Event]] = {}
        self._length: dict[int, int] = {}

    async def whole(self) -> dict[str, Any]:
        self._tokens, used = await gathered(self.job)
        return whole(self.job, KIND, [self._choice(i, one) for i, one in in_order(self.job.completions)], used)

    async def stream(self) -> AsyncIterator[bytes]:
        """Text as it comes, how it ended, usage if asked for, and [DONE]."""
        if self.body.echo:
            yield "".join(self._text(i, self._prompt(i)) for i in range(self.job.order.branches)).encode()
        ends = ""
        async for said in self.job.said():
            chunk = ends + "".join(self._text(one.branch, self._said(one), one.tokens) for one in said)
            ends = "".join(
                self._frame.choice(one.branch, '"text":""', one.finished.finish_reason) for one in said if one.finished
            )
            yield chunk.encode() or KEEP_ALIVE
        yield await self._frame.ending(ends)

    def _text(self, branch: int, text: str, tokens: list[Event] | None = None) -> str:
        if not text and not tokens:
            return ""
        logprobs = json.dumps(self._logprobs(branch, tokens)) if tokens else "null"
        return self._frame.choice(branch, f'"text":{quote(text)}', logprobs=logprobs)

    def _said(self, said: Said) -> str:
        """Thinking, its tag once it is closed, answer."""
        text = said.thinking
        if said.thinking:
            self._thought.add(said.branch)
        closed = said.answer or (said.finished is not None and said.finished.answer_tokens)
        if closed and said.branch in self._thought:
            self._thought.discard(said.branch)
            text += THINK_CLOSE
        return text + said.answer

    def _choice(self, index: int, one: Completion) -> dict[str, Any]:
        text = (self._prompt(index) if self.body.echo else "") + one.text
        tokens = self._tokens.get(index)
        ids = {"token_ids": list(one.token_ids)} if self.body.return_token_ids else {}
        logprobs = self._logprobs(index, tokens) if tokens else None
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": one.finish_reason, **ids}

    def _prompt(self, branch: int) -> str:
        ids = self.job.order.prompts[branch // self.job.order.n]
        return self._tokenizer.decode(ids[1:] if ids[0] == self._tokenizer.bos else ids)

    def _logprobs(self, branch: int, events: list[Event]) -> dict[str, Any]:
        """OpenAI's older form: four lists side by side."""
        found: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for event in events:
            if event.token_id is None or event.logprob is None:
                continue
            text = token_text(self._tokenizer, event.token_id)
            found["tokens"].append(text)
            found["token_logprobs"].append(finite(event.logprob))
            found["top_logprobs"].append({token_text(self._tokenizer, i): finite(value) for i, value in event.top})
            found["text_offset"].append(self._length.get(branch, 0))
            self._length[branch] = self._length.get(branch, 0) + len(text)
        return found
