"""What every runner of `raison bench engine` has to do: how many streams, from which prompts, how much to write.

Not covered: who does it (rivals.py), how it is timed (engine_speed.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from raison.text.tokenizer import Tokenizer

Kind = Literal["shared", "different", "prefill"]
KINDS: tuple[Kind, ...] = ("shared", "different", "prefill")
"""One prompt for all streams; a prompt for each; a long prompt of one stream, up to its first token."""
WORDS = "The quick brown fox jumps over the lazy dog while seven wizards count their numbers by the river. "


@dataclass(frozen=True, slots=True)
class Load:
    """Counts of streams and tokens; every runner's median over `rounds` counts."""

    streams: tuple[int, ...]
    prompt: int
    tokens: int
    rounds: int
    temperature: float
    kinds: tuple[Kind, ...] = KINDS
    """The first is the main one, of which the ratios at the top of the result are."""
    prefill: tuple[int, ...] = (512, 4096)
    """Tokens of the long prompts."""

    @property
    def decoding(self) -> tuple[Kind, ...]:
        return tuple(kind for kind in self.kinds if kind != "prefill")


@dataclass(frozen=True, slots=True)
class Work:
    """One run: so many tokens after each prompt, all at once. The same object twice is one prompt."""

    prompts: tuple[tuple[int, ...], ...]
    tokens: int
    temperature: float

    @property
    def streams(self) -> int:
        return len(self.prompts)

    @property
    def context(self) -> int:
        """Tokens of a stream at most."""
        return max(map(len, self.prompts)) + self.tokens


def decoding(load: Load, kind: Kind, streams: int, tokenizer: Tokenizer) -> Work:
    ids = words(tokenizer, load.prompt + streams)
    one = tuple(ids[: load.prompt])
    each = (one,) * streams if kind == "shared" else tuple(tuple(ids[i : i + load.prompt]) for i in range(streams))
    return Work(each, load.tokens, load.temperature)


def prefill(load: Load, length: int, tokenizer: Tokenizer) -> Work:
    return Work((tuple(words(tokenizer, length)),), 1, load.temperature)


def words(tokenizer: Tokenizer, count: int) -> Sequence[int]:
    """So many tokens of English."""
    return tokenizer.encode(WORDS * (2 + count // 8))[:count]
