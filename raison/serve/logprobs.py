"""Tokens one by one: their text, bytes and log-probabilities, as OpenAI writes them; those of the thinking apart.

Not covered: the tags and ends of a sequence, which are neither thinking nor answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import Any

from raison.engine.sequence import Event
from raison.text.tokenizer import Tokenizer

LEAST = -9999.0
"""What stands for a probability of nothing, as JSON has no infinity."""


@cache
def byte_of_letter() -> dict[str, int]:
    """Byte-level vocabularies write every byte as a letter one can print (GPT-2's `bytes_to_unicode`)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}


def token_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    text = str(tokenizer.backend.id_to_token(token) or "")
    letters = byte_of_letter()
    try:
        return bytes(letters[letter] for letter in text)
    except KeyError:  # a token that was added to the vocabulary, such as a tag, is written as it is
        return text.encode()


def token_text(tokenizer: Tokenizer, token: int) -> str:
    return token_bytes(tokenizer, token).decode("utf-8", "replace")


def entry(tokenizer: Tokenizer, token: int, logprob: float) -> dict[str, Any]:
    raw = token_bytes(tokenizer, token)
    return {"token": raw.decode("utf-8", "replace"), "logprob": finite(logprob), "bytes": list(raw)}


def finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else LEAST


def listed(tokenizer: Tokenizer, events: Iterable[Event]) -> dict[str, list[dict[str, Any]]]:
    """OpenAI's `logprobs` of a choice: `content`, and DeepSeek's `reasoning_content` for the thinking."""
    lists: dict[str, list[dict[str, Any]]] = {"content": [], "reasoning_content": []}
    marks = {tokenizer.think_close, *tokenizer.stops}
    for event in events:
        if event.token_id is None or event.token_id in marks or event.logprob is None:
            continue
        top = [entry(tokenizer, token, logprob) for token, logprob in event.top]
        said = {**entry(tokenizer, event.token_id, event.logprob), "top_logprobs": top}
        lists["reasoning_content" if event.thinking else "content"].append(said)
    return lists
