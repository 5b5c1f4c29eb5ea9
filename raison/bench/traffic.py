"""Requests as a busy server gets them, drawn at random: `raison bench soak` plays them.

Questions with and without a long beginning that a tenant's requests share, lengths, budgets, samples, temperatures,
stop strings, and grammars of which every one is new. Not covered: when they come and who gives up (soak.py).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from raison.bench.quality import PASSAGE
from raison.engine.grammar import Grammar
from raison.engine.sequence import SamplingParams
from raison.text.chat import prompt_ids
from raison.text.tokenizer import Tokenizer

TENANTS = ("", "blue", "green", "red")
LENGTHS = (4, 16, 48, 96, 192)
"""Tokens of an answer or of thinking at most."""
GRAMMARS = 0.05
"""Share of requests whose answer keeps to one."""


@dataclass(frozen=True, slots=True)
class Request:
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    samples: int
    tenant: str


class Traffic:
    """An endless stream of requests, each of at most `longest` tokens with its answer; the same seed, the same stream.

    `longest` leaves room for the longest answer and some prompt.
    """

    def __init__(self, tokenizer: Tokenizer, questions: Sequence[str], longest: int, seed: int) -> None:
        self._tokenizer, self._questions = tokenizer, questions
        self._words = PASSAGE.split()
        self._room = longest - 2 * max(LENGTHS)
        self._numbers = Random(f"traffic/{seed}")
        self._structured = importlib.util.find_spec("llguidance") is not None
        assert self._room > 0, f"requests of {longest} tokens are too short for the longest answers"

    def draw(self) -> Request:
        numbers = self._numbers
        tenant = numbers.choice(TENANTS)
        ids = prompt_ids(self._tokenizer, self._text(tenant))
        samples = numbers.choice((1, 1, 1, 1, 2, 4))
        if len(ids) > self._room:  # the beginning says whose it is, the end opens the answer
            ids = ids[: self._room // 2] + ids[-(self._room - self._room // 2) :]
        return Request(tuple(ids), self._params(), samples, tenant)

    def _text(self, tenant: str) -> str:
        """A question; after a beginning of the tenant's own in every second, after some words of its own in others."""
        numbers, question = self._numbers, self._numbers.choice(self._questions)
        if numbers.random() < 0.5:
            start = 40 * TENANTS.index(tenant)
            return " ".join([*self._words[start : start + 80], question])
        length = round(2 ** numbers.uniform(0, 7))
        start = numbers.randrange(len(self._words) - length)
        return " ".join([*self._words[start : start + length], question])

    def _params(self) -> SamplingParams:
        numbers = self._numbers
        answer, thinking = numbers.choice(LENGTHS), numbers.choice((None, 0, *LENGTHS))
        return SamplingParams(
            temperature=numbers.choice((0.0, 0.7, 1.0, 1.0)), top_k=numbers.choice((0, 0, 40)),
            top_p=numbers.choice((1.0, 1.0, 0.9)), thinking_budget=thinking, answer_tokens=answer,
            max_tokens=answer + max(LENGTHS), stop=numbers.choice(((), (), ("\n\n",))),
            seed=numbers.getrandbits(32), grammar=self._grammar(),
        )  # fmt: skip

    def _grammar(self) -> Grammar | None:
        if not self._structured or self._numbers.random() >= GRAMMARS:
            return None
        return Grammar("regex", f"(yes|no|{self._numbers.getrandbits(32)})")
