"""An OpenAI-compatible endpoint as its client: one question in, thinking, answer and token counts out.

The `openai` package (the extra `endpoint`) does the talking: connection failures, 408, 409, 429 and 5xx are tried again
with growing pauses or after the server's Retry-After. Thinking is read from `reasoning_content` (DeepSeek), `reasoning`
(vLLM, OpenRouter), or from the text before `</think>`. Not covered: streaming, tools, several answers a request.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from raison.config import EndpointSection
from raison.errors import UserError

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of an endpoint; counts are the server's own, 0 where it gives none."""

    thinking: str
    answer: str
    whole: bool
    """False where the limit of tokens cut it."""
    completion_tokens: int


class Endpoint:
    """Safe to call from several threads."""

    def __init__(self, section: EndpointSection) -> None:
        """Raises UserError when the package openai is missing, or the variable that should hold the key."""
        try:
            import openai  # an extra: only who asks an endpoint needs it
        except ImportError:
            raise UserError("asking an endpoint needs the package openai: pip install 'raison[endpoint]'") from None
        self._section, self._errors = section, openai
        self._client = openai.OpenAI(
            base_url=section.url, api_key=key_of(section), max_retries=section.retries, timeout=section.timeout_seconds
        )

    def ask(self, question: str, *, temperature: float, max_tokens: int, seed: int) -> Reply:
        """Raises UserError, naming the endpoint, when it refuses or stays silent after all tries."""
        where = f"{self._section.url}, model {self._section.model}"
        try:
            found = self._client.chat.completions.create(
                model=self._section.model,
                messages=[{"role": "user", "content": question}],
                temperature=temperature,
                max_tokens=max_tokens,
                seed=seed,
            )
        except self._errors.AuthenticationError:
            name = self._section.key_env or "key_env, which is not set"
            raise UserError(f"{where}: the key is refused; it is read from {name}") from None
        except self._errors.APIStatusError as error:
            raise UserError(f"{where}: it answers {error.status_code}: {str(error)[:200]}") from None
        except (self._errors.APIConnectionError, ValueError) as error:
            tries = self._section.retries + 1
            raise UserError(f"{where}: no usable answer in {tries} tries: {error}; is it running?") from None
        return _reply(found, where)


def key_of(section: EndpointSection) -> str:
    """What the section's variable holds. Raises UserError where it should hold one and does not."""
    if not section.key_env:
        return "none"  # the client wants some text even where the server wants no key
    key = os.environ.get(section.key_env)
    if not key:
        raise UserError(f"the environment variable {section.key_env} should hold the key of {section.url}; set it")
    return key


def _reply(found: Any, where: str) -> Reply:
    """A choice's thinking and answer, whichever way the server parts them."""
    if not getattr(found, "choices", None) or found.choices[0].message is None:
        raise UserError(f"{where}: it answers without any choice; is it a chat endpoint?")
    choice = found.choices[0]
    text = choice.message.content or ""
    extra = choice.message.model_extra or {}
    thinking = str(extra.get("reasoning_content") or extra.get("reasoning") or "")
    if not thinking and THINK_CLOSE in text:
        thinking, _, text = text.rpartition(THINK_CLOSE)
        thinking = thinking.removeprefix(THINK_OPEN)
    tokens = found.usage.completion_tokens if found.usage else 0
    return Reply(thinking.strip("\n"), text.strip("\n"), choice.finish_reason == "stop", tokens or 0)
