"""An answer to a conversation as a chat client sees it: a message, or chunks; a vote with what its branches say.

Not covered: what was asked (chat.py), shapes that all endpoints share (answer.py).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from raison.engine.sequence import Event
from raison.records import Completion
from raison.serve.answer import NAMES, Frame, gathered, in_order, quote, reasoning, whole
from raison.serve.job import Job
from raison.serve.logprobs import listed
from raison.serve.outbox import Said
from raison.serve.protocol import ChatRequest
from raison.serve.streaming import KEEP_ALIVE
from raison.serve.tool_text import ToolText
from raison.serve.voting import VoteJob, Watched

WHOLE, CHUNK = "chat.completion", "chat.completion.chunk"
ROLE = '"delta":{"role":"assistant","content":""}'


class ChatView:
    """One job's answer."""

    def __init__(self, job: Job, body: ChatRequest, tools: ToolText | None) -> None:
        """`tools`: what finds the model's calls, where it was shown any."""
        self.job, self.body = job, body
        self._frame = Frame(job, CHUNK, body.stream_options)
        self._names = NAMES[job.service.settings.reasoning_field] if body.include_reasoning is not False else ()
        self._tools = [tools.fresh() for _ in range(job.order.n)] if tools is not None else []
        self._tokens: dict[int, list[Event]] = {}
        self._tokenizer = job.service.reasoner.tokenizer

    async def whole(self) -> dict[str, Any]:
        self._tokens, used = await gathered(self.job)
        return whole(self.job, WHOLE, self._choices(), used)

    async def stream(self) -> AsyncIterator[bytes]:
        """Role, thinking, answer, then how it ended, usage if asked for, and [DONE]. The end waits for the books."""
        yield "".join(self._frame.choice(i, ROLE) for i in range(self.job.order.n)).encode()
        ends = ""
        async for said in self.job.said():
            chunk = ends + "".join(map(self._chunks, said))
            ends = "".join(map(self._end, said))
            yield chunk.encode() or KEEP_ALIVE
        yield await self._frame.ending(ends)

    def _choices(self) -> list[dict[str, Any]]:
        return [self._choice(i, one, self._tokens.get(i, [])) for i, one in in_order(self.job.completions)]

    def _chunks(self, said: Said) -> str:
        """What one branch said since: thinking and answer are chunks of their own."""
        text, logprobs = "", self._logprobs(said.tokens)
        if said.thinking and self._names:
            quoted = quote(said.thinking)
            body = ",".join(f'"{name}":{quoted}' for name in self._names)
            text = self._frame.choice(said.branch, f'"delta":{{{body}}}', logprobs=logprobs)
            logprobs = "null"
        if said.answer or (said.finished and self._tools):
            return text + self._answer(said, logprobs)
        if not text and logprobs != "null":  # a token without text of its own yet
            text = self._frame.choice(said.branch, '"delta":{"content":""}', logprobs=logprobs)
        return text

    def _answer(self, said: Said, logprobs: str) -> str:
        if not self._tools:
            return self._frame.choice(said.branch, f'"delta":{{"content":{quote(said.answer)}}}', logprobs=logprobs)
        tools = self._tools[said.branch]
        known = len(tools.calls)
        shown = tools.push(said.answer) + (tools.finish() if said.finished else "")
        text = ""
        if shown or logprobs != "null":  # tokens of a call are told of when they come; the call is, when it is whole
            text = self._frame.choice(said.branch, f'"delta":{{"content":{quote(shown)}}}', logprobs=logprobs)
        for i, call in enumerate(tools.calls[known:], known):
            body = json.dumps({"index": i, **call}, ensure_ascii=False)
            text += self._frame.choice(said.branch, f'"delta":{{"tool_calls":[{body}]}}')
        return text

    def _end(self, said: Said) -> str:
        if said.finished is None:
            return ""
        called = self._tools and self._tools[said.branch].calls
        reason = "tool_calls" if called else said.finished.finish_reason
        return self._frame.choice(said.branch, '"delta":{}', reason)

    def _logprobs(self, events: list[Event]) -> str:
        told = self._told(events)
        return json.dumps(listed(self._tokenizer, told), ensure_ascii=False) if told else "null"

    def _told(self, events: list[Event]) -> list[Event]:
        """Those whose log-probabilities are told. The thinking's say all of its text, and come only where it does."""
        return [one for one in events if self._names or not one.thinking] if self.body.logprobs else []

    def _choice(self, index: int, one: Completion, tokens: list[Event]) -> dict[str, Any]:
        """Cut thoughts are never an answer: content is null where none was begun."""
        content = one.answer if one.answer_tokens or one.finish_reason == "stop" else None
        field = self.job.service.settings.reasoning_field
        thinking = reasoning(one.thinking or None, field) if self._names else {}
        message: dict[str, Any] = {"role": "assistant", "content": content, **thinking}
        reason: str = one.finish_reason
        if self._tools:
            text, calls = self._tools[index].split(one.answer)
            if calls:
                message |= {"content": text.strip() or None, "tool_calls": calls}
                reason = "tool_calls"
        logprobs = listed(self._tokenizer, self._told(tokens)) if self.body.logprobs else None
        ids = {"token_ids": list(one.token_ids)} if self.body.return_token_ids else {}
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason, **ids}


class VoteView(ChatView):
    """A vote: what its branches say beside, the chosen one as the answer."""

    job: VoteJob

    async def stream(self) -> AsyncIterator[bytes]:
        yield self._frame.choice(0, ROLE).encode()
        watched = Watched(self.job)
        async for told in watched.events():
            yield "".join(map(self._frame.other, told)).encode() or KEEP_ALIVE
        chosen = self._chosen()
        if chosen is None:
            yield await self._frame.ending(self._frame.choice(0, '"delta":{}', "length"))
            return
        self._tokens = watched.tokens
        said = Said(0, chosen.thinking, chosen.answer, self._drawn(chosen), chosen)
        yield self._chunks(said).encode()
        yield await self._frame.ending(self._end(said))

    def _choices(self) -> list[dict[str, Any]]:
        """The tally is told beside the answer."""
        chosen = self._chosen()
        if chosen is None:
            message = {"role": "assistant", "content": None}
            return [{"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}]
        return [self._choice(0, chosen, self._drawn(chosen))]

    def _drawn(self, chosen: Completion) -> list[Event]:
        """The chosen sample's tokens; none where a search drew it step by step, for its last step is not all of it."""
        assert self.job.outcome is not None
        tokens = self._tokens.get(self.job.outcome.chosen or 0, [])
        return tokens if sum(one.token_id is not None for one in tokens) == len(chosen.token_ids) else []

    def _chosen(self) -> Completion | None:
        return None if self.job.outcome is None else self.job.outcome.completion
