"""Who answers the questions of `raison bench accuracy`: a model on this machine's engine, or an endpoint.

A sample's seed follows from the run's seed, the problem's place and the sample's number alone, so that answers do not
depend on how they are drawn in parts. Of an endpoint that heeds seeds the same holds as far as it is deterministic.
Not covered: how answers are judged (accuracy.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import urldefrag

from raison.config import EndpointSection
from raison.endpoint import Endpoint
from raison.engine.engine import Engine
from raison.engine.sequence import SamplingParams, sample_seed
from raison.errors import UserError
from raison.reasoner import SHIPPED, Reasoner
from raison.records import Completion, Problem
from raison.text import chat
from raison.think.budget import ANSWER_TOKENS, sampling
from raison.weights import place
from raison.weights.fingerprint import fingerprint


@dataclass(frozen=True, slots=True)
class Manner:
    """How every problem is put to a model."""

    samples: int = 4
    """Of each problem; sample i is the run of seed number i."""
    budget: int = 512
    """Thinking tokens; of a model that does not think, tokens of its answer."""
    answer_tokens: int = ANSWER_TOKENS
    """After the thinking."""
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("samples", 1), ("budget", 0), ("answer_tokens", 1), ("temperature", 0), ("seed", 0)):
            if getattr(self, name) < low:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least {low}")

    def params(self, count: int, thinks: bool) -> list[SamplingParams]:
        """For each of `count` problems, each with a seed of its own."""
        one = sampling(self.budget, self.temperature, self.seed, thinks)
        more = self.answer_tokens - ANSWER_TOKENS if thinks else 0
        limits = replace(one, answer_tokens=one.answer_tokens + more, max_tokens=one.max_tokens + more)
        return limits.spread(count)


class Answerer(Protocol):
    name: str

    def identity(self) -> dict[str, Any]:
        """What a result says of the model: `model`, `sha256` (None where nobody can tell), and how it is run."""
        ...

    def answer(self, problems: Sequence[Problem], params: Sequence[SamplingParams], n: int) -> list[list[Completion]]:
        """`n` samples of each problem. Raises UserError where none can be had."""
        ...

    @property
    def thinks(self) -> bool: ...


class LocalModel:
    """A model in this process. `word` is what the user called it by."""

    def __init__(self, reasoner: Reasoner, word: str | None) -> None:
        self.name = word or "shipped"
        self._place = SHIPPED if word is None else place.locate(word)
        self._reasoner = reasoner

    @property
    def thinks(self) -> bool:
        return chat.thinks(self._reasoner.tokenizer)

    def identity(self) -> dict[str, Any]:
        settings = self._reasoner.settings
        return {"model": self.name, "sha256": fingerprint(self._place), "dtype": settings.dtype, "thinks": self.thinks}

    def answer(self, problems: Sequence[Problem], params: Sequence[SamplingParams], n: int) -> list[list[Completion]]:
        return engine_answers(self._reasoner.engine, problems, params, n)


def engine_answers(
    engine: Engine, problems: Sequence[Problem], params: Sequence[SamplingParams], n: int
) -> list[list[Completion]]:
    prompts = [chat.prompt_ids(engine.tokenizer, problem.prompt) for problem in problems]
    return engine.generate(prompts, params, n=n)


class RemoteModel:
    """A model behind an OpenAI-compatible endpoint, named as `http://host:port/v1#model`."""

    thinks = True
    """Nobody can tell; the limit of tokens then holds for thinking and answer together."""

    def __init__(self, word: str, key_env: str = "", concurrency: int = 8) -> None:
        url, model = urldefrag(word)
        if not model:
            raise UserError(f"{word} names no model; write it after a #, as in {url.rstrip('/')}#model")
        self.name = word
        self._section = EndpointSection(url=url, model=model, key_env=key_env, concurrency=concurrency)
        self._endpoint = Endpoint(self._section)

    def identity(self) -> dict[str, Any]:
        return {"model": self._section.model, "sha256": None, "endpoint": self._section.url}

    def answer(self, problems: Sequence[Problem], params: Sequence[SamplingParams], n: int) -> list[list[Completion]]:
        asked = [(problem, one, i) for problem, one in zip(problems, params, strict=True) for i in range(n)]
        with ThreadPoolExecutor(self._section.concurrency) as pool:
            heard = list(pool.map(lambda each: self._ask(*each), asked))
        return [heard[start : start + n] for start in range(0, len(heard), n)]

    def _ask(self, problem: Problem, params: SamplingParams, number: int) -> Completion:
        seed = sample_seed(params.seed, number)
        reply = self._endpoint.ask(
            problem.prompt, temperature=params.temperature, max_tokens=params.max_tokens, seed=seed % 2**31
        )
        whole = max(1, len(reply.thinking) + len(reply.answer))
        thoughts = round(reply.completion_tokens * len(reply.thinking) / whole)
        return Completion(
            text=reply.answer, thinking=reply.thinking, answer=reply.answer, token_ids=(), logprobs=(),
            finish_reason="stop" if reply.whole else "length", prompt_tokens=0, cached_tokens=0,
            thinking_tokens=thoughts, answer_tokens=reply.completion_tokens - thoughts, forced_close=not reply.whole,
            seed=seed, first_token_seconds=0.0, seconds=0.0,
        )  # fmt: skip


def is_endpoint(word: str | None) -> bool:
    return word is not None and word.startswith(("http://", "https://"))
