"""How answers look on the wire: usage, messages, and chunks of streams written with as little work as a token allows.

A chunk's frame is the same for the whole stream, so it is formatted once and only the text is quoted anew. The same
text comes streamed and whole. Not covered: the responses endpoint's own shapes (responses.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from raison.engine.sequence import Event
from raison.records import Completion
from raison.serve.access import Used
from raison.serve.job import Job
from raison.serve.prices import NANO_PER_DOLLAR
from raison.serve.protocol import StreamOptions
from raison.serve.settings import ReasoningField
from raison.serve.streaming import DONE

NAMES: dict[ReasoningField, tuple[str, ...]] = {
    "reasoning_content": ("reasoning_content",),
    "reasoning": ("reasoning",),
    "both": ("reasoning_content", "reasoning"),
}
quote = json.JSONEncoder(ensure_ascii=False).encode
"""A text as JSON; `json.dumps` would make an encoder each time."""


def usage(job: Job, used: Used) -> dict[str, Any]:
    """OpenAI's names, and DeepSeek's for the cache; all counted from ids, every drawn token included.

    `raison` has what became of each branch, the server's own clock for clients that check theirs, and the cost in
    dollars where there is a price.
    """
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
        "prompt_cache_hit_tokens": used.cached_tokens,
        "prompt_cache_miss_tokens": used.prompt_tokens - used.cached_tokens,
        "raison": {
            "branches": [_branch(i, one) for i, one in sorted(job.completions.items())],
            "seconds": used.seconds,
            "first_token_seconds": None if math.isnan(used.first_token_seconds) else used.first_token_seconds,
            "tokens_per_second": used.completion_tokens / max(used.seconds, 1e-9),
            "cost": dollars(job.service.access.cost(used)),
        },
    }


def _branch(number: int, one: Completion) -> dict[str, Any]:
    tokens = {"tokens": len(one.token_ids), "thinking_tokens": one.thinking_tokens}
    return {"branch": number, **tokens, "finish": one.finish_reason}


def dollars(nano: int | None) -> float | None:
    return None if nano is None else nano / NANO_PER_DOLLAR


def reasoning(text: str | None, field: ReasoningField) -> dict[str, str | None]:
    return dict.fromkeys(NAMES[field], text)


def whole(job: Job, kind: str, choices: list[dict[str, Any]], used: Used) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    return {
        "id": job.id, "object": kind, "created": job.created, "model": job.order.model,
        "system_fingerprint": job.service.fingerprint, "choices": choices,
        "usage": usage(job, used),
    }  # fmt: skip


class Frame:
    """The chunks of one stream, with the usage that its options ask for: at the end, and in every chunk so far."""

    def __init__(self, job: Job, kind: str, options: StreamOptions | None) -> None:
        self._job = job
        self._usage = options is not None and bool(options.include_usage)
        self._always = self._usage and options is not None and bool(options.continuous_usage_stats)
        self._head = (
            f'data: {{"id":"{job.id}","object":"{kind}","created":{job.created},"model":{quote(job.order.model)},'
            f'"system_fingerprint":"{job.service.fingerprint}","choices":['
        )

    def choice(self, index: int, body: str, finish: str | None = None, logprobs: str = "null") -> str:
        """One choice's chunk; `body` is a field with its JSON value, such as "delta":{...}."""
        end = "null" if finish is None else f'"{finish}"'
        usage = self._so_far() if self._always else ""
        return f'{self._head}{{"index":{index},{body},"logprobs":{logprobs},"finish_reason":{end}}}]{usage}}}\n\n'

    def _so_far(self) -> str:
        """What was drawn up to this chunk for the whole request, as vLLM tells it; the books have no say in it yet."""
        read, drawn = self._job.order.prompt_tokens, self._job.drawn
        return f',"usage":{{"prompt_tokens":{read},"completion_tokens":{drawn},"total_tokens":{read + drawn}}}'

    def last(self, used: Used) -> str:
        """The chunk without choices that carries the usage."""
        return f'{self._head}],"usage":{json.dumps(usage(self._job, used))}}}\n\n'

    async def ending(self, ends: str) -> bytes:
        """How branches ended, the usage if it is asked for, and [DONE]; waits for the books."""
        used = await self._job.settled()
        usage = self.last(used) if self._usage else ""
        return (ends + usage).encode() + DONE

    def other(self, value: Mapping[str, Any]) -> str:
        """A chunk without choices that carries the project's own field `raison`."""
        return f'{self._head}],"raison":{json.dumps(value, ensure_ascii=False)}}}\n\n'


async def gathered(job: Job) -> tuple[dict[int, list[Event]], Used]:
    """Every token's event by branch, where they are wanted, and what was used: an answer that is not streamed."""
    tokens: dict[int, list[Event]] = {}
    async for said in job.said():
        for one in said:
            tokens.setdefault(one.branch, []).extend(one.tokens)
    return tokens, await job.settled()


def in_order(completions: Mapping[int, Completion]) -> Iterable[tuple[int, Completion]]:
    return sorted(completions.items())
