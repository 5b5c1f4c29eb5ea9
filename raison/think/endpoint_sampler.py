"""Branches drawn by any OpenAI-compatible endpoint: concurrent, streaming, ended early by closing the stream.

The `openai` package (the extra `endpoint`) does the talking. Each branch is a request of its own with its own seed.
Thinking is read from `reasoning_content` (DeepSeek), `reasoning` (vLLM, OpenRouter) or from the text before `</think>`.
Tokens are the server's own count where it sends one; a stream that was closed early has none, so that its chunks with
text are counted, one token each: some servers put several into one, and the count is then a lower bound.
Not covered: branches that go on after a prefix (an endpoint takes no ids), tools, schemas.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from raison.config import EndpointSection
from raison.endpoint import THINK_CLOSE, THINK_OPEN, key_of
from raison.engine.sequence import Event, sample_seed
from raison.errors import UserError
from raison.records import Completion, FinishReason
from raison.think.strategy import Branch


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the endpoint, the same for each branch but the seed."""

    messages: tuple[Mapping[str, str], ...]
    max_tokens: int
    temperature: float = 1.0
    seed: int = 0
    top_logprobs: int = 0
    """Likeliest tokens to ask for, which confidence needs; 0 asks for none."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields that the endpoint knows beyond OpenAI's."""


class EndpointSampler:
    """Use as an async context manager, which closes the connections. Raises UserError as the endpoint's client does."""

    def __init__(self, section: EndpointSection, request: Request, concurrency: int = 16) -> None:
        try:
            import openai  # an extra: only who asks an endpoint needs it
        except ImportError:
            raise UserError("asking an endpoint needs the package openai: pip install 'raison[endpoint]'") from None
        self._section, self._request, self._errors = section, request, openai
        self._client = openai.AsyncOpenAI(
            base_url=section.url, api_key=key_of(section), max_retries=section.retries, timeout=section.timeout_seconds
        )
        self._room = asyncio.Semaphore(concurrency)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._heard: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._failure: BaseException | None = None
        self._failed = False

    async def __aenter__(self) -> EndpointSampler:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cancel(list(self._tasks))
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._client.close()

    async def start(self, branches: Sequence[Branch]) -> None:
        for branch in branches:
            if branch.prefix:
                raise UserError("an endpoint takes no token ids to go on from: beam search and DVTS need a model here")
            heard = _Heard(sample_seed(self._request.seed, branch.number))
            task = self._tasks[branch.number] = asyncio.create_task(self._draw(branch, heard))
            task.add_done_callback(partial(self._ended, branch.number, heard))

    async def cancel(self, branches: Sequence[int]) -> None:
        """Close their streams; each tells its end with what had come."""
        for branch in branches:
            if branch in self._tasks:
                self._tasks[branch].cancel()

    async def events(self) -> Sequence[tuple[int, Event]]:
        """Raises UserError once where a branch failed for good; after that the others' ends are told as ever."""
        heard = [await self._heard.get()]
        while not self._heard.empty():
            heard.append(self._heard.get_nowait())
        failure, self._failure = self._failure, None
        if failure is None:
            return heard
        for event in heard:
            self._heard.put_nowait(event)
        raise failure

    def _ended(self, number: int, heard: _Heard, task: asyncio.Task[None]) -> None:
        """However a branch ended, its end is told; one that was cancelled before it began ran no line of its own."""
        failure = None if task.cancelled() else task.exception()
        if failure is not None and not self._failed:
            self._failure, self._failed = failure, True
        whole = failure is None and not task.cancelled()
        self._heard.put_nowait((number, heard.end(None if whole else "cancelled")))
        del self._tasks[number]

    async def _draw(self, branch: Branch, heard: _Heard) -> None:
        async with self._room, contextlib.aclosing(self._chunks(branch, heard.seed)) as chunks:
            async for chunk in chunks:
                for event in heard.take(chunk):
                    self._heard.put_nowait((branch.number, event))

    async def _chunks(self, branch: Branch, seed: int) -> AsyncGenerator[Any, None]:
        asked = self._request
        where = f"{self._section.url}, model {self._section.model}"
        more = {"logprobs": True, "top_logprobs": asked.top_logprobs} if asked.top_logprobs else {}
        try:
            stream = await self._client.chat.completions.create(
                model=self._section.model, messages=list(asked.messages), stream=True,
                stream_options={"include_usage": True}, temperature=asked.temperature, seed=seed % 2**31,
                max_tokens=min(asked.max_tokens, branch.max_tokens or asked.max_tokens), extra_body=dict(asked.extra),
                **more,
            )  # type: ignore[call-overload]  # fmt: skip
            try:
                async for chunk in stream:
                    yield chunk
            finally:
                await stream.close()
        except self._errors.APIStatusError as error:
            raise UserError(f"{where}: it answers {error.status_code}: {str(error)[:200]}") from None
        except self._errors.APIError as error:
            raise UserError(f"{where}: no usable answer: {error}; is it running?") from None


class _Heard:
    """One stream's text so far."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._begun = time.perf_counter()
        self._first = 0.0
        self._thinking, self._answer = "", ""
        self._logprobs: list[float] = []
        self._chunks = self._thoughts = 0
        self._usage: Any = None
        self._finish: FinishReason = "stop"

    def take(self, chunk: Any) -> list[Event]:
        self._usage = getattr(chunk, "usage", None) or self._usage
        if not getattr(chunk, "choices", None):
            return []
        choice = chunk.choices[0]
        extra = choice.delta.model_extra or {}
        thought = str(extra.get("reasoning_content") or extra.get("reasoning") or "")
        said = choice.delta.content or ""
        self._thinking, self._answer = self._thinking + thought, self._answer + said
        if choice.finish_reason == "length":
            self._finish = "length"
        if not (thought or said):
            return []
        self._first = self._first or time.perf_counter()
        self._chunks, self._thoughts = self._chunks + 1, self._thoughts + bool(thought)
        return self._events(thought or said, bool(thought), choice.logprobs)

    def _events(self, text: str, thinking: bool, logprobs: Any) -> list[Event]:
        """One for the text, and one more for every further token that came with it."""
        tokens = [(token.logprob, _top(token)) for token in (logprobs.content or ())] if logprobs else []
        self._logprobs += [logprob for logprob, _ in tokens]
        first, rest = (tokens or [(None, ())])[0], tokens[1:]
        told = [Event(0, None, text, thinking, None, *first)]
        return told + [Event(0, None, None, thinking, None, *token) for token in rest]

    def end(self, finish: FinishReason | None = None) -> Event:
        thinking, answer = _parted(self._thinking, self._answer)
        tokens, thoughts = self._counts(thinking, answer)
        now = time.perf_counter()
        usage = self._usage
        completion = Completion(
            text=thinking + answer, thinking=thinking, answer=answer, token_ids=(), logprobs=tuple(self._logprobs),
            finish_reason=finish or self._finish, prompt_tokens=usage.prompt_tokens if usage else 0, cached_tokens=0,
            thinking_tokens=thoughts, answer_tokens=tokens - thoughts, forced_close=False, seed=self.seed,
            first_token_seconds=(self._first or now) - self._begun, seconds=now - self._begun,
        )  # fmt: skip
        return Event(0, None, None, False, completion)

    def _counts(self, thinking: str, answer: str) -> tuple[int, int]:
        """Tokens in all, and of the thinking: the server's where it tells, by chunks and by length of text else."""
        tokens = self._usage.completion_tokens if self._usage else self._chunks
        details = getattr(self._usage, "completion_tokens_details", None)
        told = getattr(details, "reasoning_tokens", None)
        if told is not None:
            return tokens, min(told, tokens)
        if self._thoughts:
            return tokens, round(tokens * self._thoughts / self._chunks)
        return tokens, round(tokens * len(thinking) / max(1, len(thinking) + len(answer)))


def _parted(thinking: str, text: str) -> tuple[str, str]:
    """Thinking apart from answer, where a server leaves the tags in the text; unclosed thoughts are no answer."""
    if thinking or (THINK_CLOSE not in text and not text.lstrip().startswith(THINK_OPEN)):
        return thinking, text
    thought, closed, answer = text.rpartition(THINK_CLOSE)
    return (thought if closed else text).lstrip().removeprefix(THINK_OPEN), answer if closed else ""


def _top(token: Any) -> tuple[tuple[int, float], ...]:
    """The likeliest tokens' log-probabilities; an endpoint names tokens by text, so that their places stand for ids."""
    return tuple((place, one.logprob) for place, one in enumerate(token.top_logprobs or ()))
